"""Fine-tuning methods, one file per method."""
