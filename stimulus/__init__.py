"""What the participant sees."""
