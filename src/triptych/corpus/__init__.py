"""Documents to token ids, once per suite."""
