"""Scores of one summary: ROUGE, and what its text looks like."""
