"""From what is specified to what comes next: requirements, gaps, compliance, ideas, roadmap."""
