"""Predictions that exist already, scored without a model."""
