"""Deep reading: inputs larger than any window, with every byte accounted for."""
