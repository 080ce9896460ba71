"""Base models: their sources, parts, tokens and weights."""
