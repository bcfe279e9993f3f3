"""Cortex Pipelines: turns what a team drops into a folder into things the team can rely on."""

__version__ = "0.1.0"
