"""Generate the sentences of the report from results and their comparison."""

from dataclasses import dataclass

from triptych.reporting import rows
from triptych.reporting.claims import checks, cost, discussion, quality, recipe, runs, setting, shape, theory
from triptych.results.reading import Results
from triptych.results.records import Comparison


@dataclass(frozen=True)
class Sentence:
    """A sentence or two on one topic.

    Attributes:
        topic: the part of the report that shows the sentence: `abstract`, `setting`, `reductions`,
            `setting-of-methods`, `architecture`, `recipe`, `training`, `quality`, `loss`, `tests`, `cost`, `shape`,
            `checks`, `learned`, `differences`, `cost-and-quality`, `limiting`, `conclusion`, `theory`, `limits`.
        name: the name of the claim, unique within a report.
        text: the sentence; numbers are formatted as in the tables.
    """

    topic: str
    name: str
    text: str


def claims(results: Results, comparison: Comparison) -> list[Sentence]:
    """All sentences about a comparison, in report order.

    Args:
        results: the runs.
        comparison: the comparison of the same runs.
    """
    files = rows.of_files(comparison)
    timed = rows.with_own_times(comparison)
    sentences: list[tuple[str, str, str | None]] = [
        ("abstract", "in-brief", None if files else setting.in_brief(comparison)),
        ("setting", "setting", setting.compared(comparison)),
        ("setting", "synthetic", rows.synthetic_notice(comparison)),
        ("quality", "verdict", comparison.verdict),
        ("quality", "best-rouge", quality.best_rouge(comparison)),
        ("quality", "method-order", quality.method_order(comparison)),
        ("quality", "against-lead", quality.against_lead(comparison)),
        ("loss", "best-loss", quality.best_loss(comparison)),
        ("loss", "against-untuned", quality.against_untuned(comparison)),
        ("loss", "loss-order", quality.loss_order(comparison)),
        ("loss", "loss-and-rouge", quality.loss_and_rouge(comparison)),
        ("tests", "test-counts", quality.test_counts(comparison)),
        ("tests", "method-tests", quality.method_tests(comparison)),
        ("cost", "time", cost.extremes(timed, "cost.train_seconds", "training time")),
        (
            "cost",
            "trainable",
            cost.extremes(comparison, "parameters.num_trainable_parameters", "number of trainable parameters"),
        ),
        ("cost", "compute", cost.extremes(comparison, "cost.train_flops", "training compute")),
        ("cost", "memory", cost.memory(results, comparison)),
        ("cost", "energy", cost.extremes(timed, "cost.energy_joules", "energy")),
        ("cost", "parameters-and-compute", cost.parameters_and_compute(comparison)),
        ("cost", "saved", cost.saved(comparison)),
        ("cost", "trunk-cache", runs.trunk_caches(results)),
        ("cost", "search", cost.search_cost(comparison)),
        ("shape", "length", shape.length(comparison) if files else None),
        ("shape", "copying", shape.copying(comparison) if files else None),
        ("checks", "unsupported", checks.unsupported(comparison)),
        ("checks", "unsupported-tests", checks.unsupported_tests(comparison)),
        ("checks", "extraction", checks.extraction(comparison)),
        ("checks", "unfinished", checks.unfinished(comparison)),
        ("reductions", "whole-job", runs.whole_job(results) if timed is comparison else None),
        ("setting-of-methods", "differences", runs.differences(results, comparison)),
        ("architecture", "shapes-base", setting.base_model(results, comparison)),
        *(("architecture", f"shapes-{kind}", theory.shapes(results, kind)) for kind in rows.METHODS),
        ("recipe", "loss-and-optimizer", recipe.loss_and_optimizer(results)),
        ("recipe", "schedule", recipe.schedule(results)),
        ("recipe", "stopping", recipe.stopping(results)),
        ("recipe", "choices", recipe.choices(results)),
        ("recipe", "decoding", recipe.decoding(results)),
        ("training", "epochs", runs.epochs(results)),
        ("learned", "loss-against-rouge", discussion.loss_against_rouge(comparison)),
        ("learned", "stopping-and-length", discussion.stopping_and_length(comparison)),
        ("learned", "copying-in-words", discussion.copied_words(comparison)),
        ("learned", "gaps", discussion.gaps(results)),
        ("differences", "apart", discussion.apart(comparison)),
        ("differences", "undecided", discussion.undecided(comparison)),
        ("cost-and-quality", "cost-and-quality", discussion.cost_and_quality(timed)),
        ("cost-and-quality", "front-of-trained", discussion.front_of_trained(timed)),
        ("limiting", "limiting", discussion.limiting(results, comparison)),
        ("limiting", "would-change", discussion.would_change(results, comparison)),
        ("conclusion", "conclusion", discussion.conclusion(timed)),
        ("limits", "power", quality.power(comparison)),
        ("limits", "failures", setting.failures(comparison)),
        ("limits", "missing-meters", cost.missing_meters(comparison)),
        ("theory", "theory-soft-prompts", theory.evidence(comparison, "prompt-tuning")),
        ("theory", "theory-scale", theory.gap_to_full(comparison, ("prompt-tuning",))),
        ("theory", "theory-scale-compute", theory.shares_of_full(comparison)),
        ("theory", "theory-lora", theory.evidence(comparison, "lora")),
        ("theory", "theory-lora-start", theory.first_loss(comparison)),
        ("theory", "theory-low-rank", theory.gap_to_full(comparison, ("lora", "last-layers"))),
    ]
    return [Sentence(topic, name, text) for topic, name, text in sentences if text]
