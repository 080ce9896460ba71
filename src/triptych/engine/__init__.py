"""Tensor code: from a batch to loss and optimizer step, and from documents to summaries; independent of the method."""
