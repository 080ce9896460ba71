"""Triptych: compare ways to fine-tune a causal language model for summarization.

What is public stands in `__all__`; docs/api.md shows its use. Names come in when they are first asked for, so that
`import triptych` itself is fast and brings no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych.api import compare, load, load_all, train
    from triptych.contracts import (
        AdaptedModel,
        Baseline,
        Context,
        Dataset,
        EmbeddedModel,
        Example,
        Method,
        Metric,
        ModelParts,
    )
    from triptych.errors import TriptychError
    from triptych.planner import plan
    from triptych.records import Comparison, DesignPlan, Record
    from triptych.registry import register
    from triptych.scored_files import score
    from triptych.trained import Summary, Trained

__version__ = "0.1.0"
__all__ = [
    "AdaptedModel",
    "Baseline",
    "Comparison",
    "Context",
    "Dataset",
    "DesignPlan",
    "EmbeddedModel",
    "Example",
    "Method",
    "Metric",
    "ModelParts",
    "Record",
    "Summary",
    "Trained",
    "TriptychError",
    "compare",
    "load",
    "load_all",
    "plan",
    "register",
    "score",
    "train",
]
_MODULES = ("errors", "registry", "records", "contracts", "api", "trained")  # those without torch first
_WITHOUT_TORCH = {"plan": "planner", "score": "scored_files"}  # not looked for in the modules above, of which some bring it


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in [_WITHOUT_TORCH[name]] if name in _WITHOUT_TORCH else _MODULES:
            found = vars(import_module(f"triptych.{module}"))
            if name in found:
                return found[name]
    raise AttributeError(f"module 'triptych' has no attribute {name!r}")
