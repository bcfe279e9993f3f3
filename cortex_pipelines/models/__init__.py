"""Models to run lanes on: which there are, where they come from, and how they get onto a disk whole."""
