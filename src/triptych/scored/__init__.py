"""Score existing predictions, without a model."""
