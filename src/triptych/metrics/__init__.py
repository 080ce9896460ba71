"""Scores of one summary: ROUGE and statistics of its text."""
