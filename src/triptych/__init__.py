"""Triptych: compare ways to fine-tune a causal language model for summarization.

Public names are listed in `__all__`; docs/api.md shows their use. Each is imported on first use, so that
`import triptych` is fast and does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych.analysis.advice import Advice
    from triptych.api import (
        DataDescription,
        Registered,
        advise,
        bundle,
        compare,
        describe_data,
        dry_run,
        env,
        evaluate,
        export,
        init,
        list_keys,
        list_registered,
        load,
        load_all,
        play,
        report,
        summarize,
        summarize_to_file,
        train,
    )
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
    from triptych.submission.bundle import Bundle
    from triptych.suite.dry_run import DryRun
    from triptych.suite.executors import Resources
    from triptych.use.evaluate import Evaluation
    from triptych.use.summarizers import Summary, Trained

__version__ = "0.1.0"
_HOMES = {
    "AdaptedModel": "contracts",
    "Advice": "analysis.advice",
    "Baseline": "contracts",
    "Bundle": "submission.bundle",
    "Comparison": "results.records",
    "Context": "contracts",
    "DataDescription": "api",
    "Dataset": "contracts",
    "DesignPlan": "results.records",
    "DryRun": "suite.dry_run",
    "EmbeddedModel": "contracts",
    "Evaluation": "use.evaluate",
    "Example": "contracts",
    "Method": "contracts",
    "Metric": "contracts",
    "ModelParts": "contracts",
    "Record": "results.records",
    "Registered": "api",
    "Resources": "suite.executors",
    "Summary": "use.summarizers",
    "Trained": "use.summarizers",
    "TriptychError": "errors",
    "advise": "api",
    "bundle": "api",
    "compare": "api",
    "describe_data": "api",
    "dry_run": "api",
    "env": "api",
    "evaluate": "api",
    "export": "api",
    "init": "api",
    "list_keys": "api",
    "list_registered": "api",
    "load": "api",
    "load_all": "api",
    "plan": "planning.planner",
    "play": "api",
    "register": "registry",
    "report": "api",
    "score": "scored.files",
    "summarize": "api",
    "summarize_to_file": "api",
    "train": "api",
}
__all__ = [
    "AdaptedModel",
    "Advice",
    "Baseline",
    "Bundle",
    "Comparison",
    "Context",
    "DataDescription",
    "Dataset",
    "DesignPlan",
    "DryRun",
    "EmbeddedModel",
    "Evaluation",
    "Example",
    "Method",
    "Metric",
    "ModelParts",
    "Record",
    "Registered",
    "Resources",
    "Summary",
    "Trained",
    "TriptychError",
    "advise",
    "bundle",
    "compare",
    "describe_data",
    "dry_run",
    "env",
    "evaluate",
    "export",
    "init",
    "list_keys",
    "list_registered",
    "load",
    "load_all",
    "plan",
    "play",
    "register",
    "report",
    "score",
    "summarize",
    "summarize_to_file",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"triptych.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'triptych' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
