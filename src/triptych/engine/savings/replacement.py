"""Temporarily replace a module's forward."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def replaced(module: nn.Module, forward: Callable) -> Iterator[None]:
    """Replace a module's forward inside the context and restore it afterwards."""
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before
