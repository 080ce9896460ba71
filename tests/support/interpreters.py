"""Interpreters in which some imports fail."""

TORCHLESS = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft", "accelerate", "datasets"):
            raise ImportError(f"{name} is refused")

sys.meta_path.insert(0, Refuse())
"""
"""Code that a child process runs first so that importing torch or a library that needs it fails."""
