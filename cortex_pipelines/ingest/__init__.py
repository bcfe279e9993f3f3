"""What lands."""
