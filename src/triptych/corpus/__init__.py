"""Turn documents into token ids, once per suite."""
