"""Coursework: one zip file to submit."""
