"""Generate summaries with the engine's own loop or with transformers' `generate`."""
