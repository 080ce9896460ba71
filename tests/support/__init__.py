"""Shared by tests: models, corpora, records, results folders and child processes made for them."""
