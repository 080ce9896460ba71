"""What a run costs, measured in the same way for every method."""
