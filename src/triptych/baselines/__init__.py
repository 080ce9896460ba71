"""Summarizers without a language model, to compare against."""
