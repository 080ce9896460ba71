"""What a comparison must be to find a difference, before it is run."""
