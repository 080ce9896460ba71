"""Base models: where they come from, their parts, tokens and weights."""
