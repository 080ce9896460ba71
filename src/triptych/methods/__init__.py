"""Ways to fine-tune, one file per method."""
