"""Exact speed-ups: each changes how a model computes, never what, and is used only if a probe confirms it."""
