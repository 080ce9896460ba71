"""A single run, from settings to record."""
