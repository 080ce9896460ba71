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
    from triptych.planning.planner import plan
    from triptych.registry import register
    from triptych.results.records import Comparison, DesignPlan, Record
    from triptych.scored.files import score
    from triptych.use.summarizers import Summary, Trained

__version__ = "0.1.0"
_HOMES = {
    "AdaptedModel": "contracts",
    "Baseline": "contracts",
    "Comparison": "results.records",
    "Context": "contracts",
    "Dataset": "contracts",
    "DesignPlan": "results.records",
    "EmbeddedModel": "contracts",
    "Example": "contracts",
    "Method": "contracts",
    "Metric": "contracts",
    "ModelParts": "contracts",
    "Record": "results.records",
    "Summary": "use.summarizers",
    "Trained": "use.summarizers",
    "TriptychError": "errors",
    "compare": "api",
    "load": "api",
    "load_all": "api",
    "plan": "planning.planner",
    "register": "registry",
    "score": "scored.files",
    "train": "api",
}
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


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"triptych.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'triptych' has no attribute {name!r}")
