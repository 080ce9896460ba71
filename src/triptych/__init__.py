"""Triptych: compare ways to fine-tune a causal language model for summarization."""

__version__ = "0.1.0"
