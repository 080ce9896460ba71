"""What a run costs, measured the same way for every method."""
