"""Trained models in use: summarize, evaluate, export, serve."""
