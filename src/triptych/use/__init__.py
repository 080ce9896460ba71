"""Trained models at work: summarize, evaluate, export, serve."""
