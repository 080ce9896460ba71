"""Files: atomic writes, locks and a bounded cache."""
