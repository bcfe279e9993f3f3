"""Running it day to day: backup and restore, upkeep of the stores, and what `cortex doctor` looks at."""
