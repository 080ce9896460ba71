"""Use trained models: summarize, evaluate, export, serve."""
