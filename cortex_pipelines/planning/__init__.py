"""What is required against what is there: requirements, gaps, compliance, ideas, roadmap."""
