"""Files of any content: atomic writes, locks, a bounded cache."""
