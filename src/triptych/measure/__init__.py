"""Measurements of a run's cost, made in the same way for every method."""
