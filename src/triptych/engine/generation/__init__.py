"""Summaries of documents: by the engine's own loop, or by transformers' `generate`."""
