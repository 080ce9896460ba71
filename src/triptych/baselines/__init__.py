"""Baselines: summarizers without a language model."""
