"""Tensors: from a batch to its loss and optimizer step, and from documents to summaries; no method is known here."""
