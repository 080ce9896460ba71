"""Score predictions that exist already, without a model."""
