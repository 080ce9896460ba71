"""From documents to token ids, once per suite."""
