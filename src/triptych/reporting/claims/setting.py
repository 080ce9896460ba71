"""Sentences about what was compared and what did not finish."""

from triptych.analysis.verdict import seed_counts
from triptych.reporting import rows
from triptych.reporting.claims.selection import trained
from triptych.results.reading import Results
from triptych.results.records import Comparison
from triptych.text import formats


def compared(comparison: Comparison) -> str:
    """Which methods, documents, model and seeds were compared, or which files were scored."""
    if rows.of_files(comparison):
        return _scored(comparison)
    labels = list(rows.done(comparison))
    return (
        f"{formats.count_in_words(len(labels))} {formats.verb(labels, 'method', 'methods')} ({formats.listed(labels)}) "
        f"{formats.verb(labels, 'was', 'were')} evaluated on {_on_documents(comparison, labels, 'test document')} of "
        f"{comparison.data}, with the model {comparison.model}{_size(comparison)}{_seeds(comparison)}."
    )


def base_model(results: Results, comparison: Comparison) -> str | None:
    """The shape of the base model if it differs from GPT-2 small, which the equations use; None without a model."""
    known = [run.record.provenance for run in results.runs if run.record.provenance is not None]
    shape = next((one.architecture for one in known if one.architecture is not None), None)
    if not any(one.model_fingerprint for one in known) or (shape is not None and shape.is_gpt2_small):
        return None
    text = f"The base model here is {comparison.model}"
    if shape is not None:
        blocks = formats.number_of(shape.num_blocks, "block")
        text += f", of type {shape.model_type}: {blocks} of width {shape.hidden_size:,}"
        if shape.model_type == "gpt2":
            return f"{text}."
    return f"{text}; wte, ln_f and lm_head stand for its input embeddings, final norm and output head."


def in_brief(comparison: Comparison) -> str | None:
    """The comparison in one sentence for the abstract; None if nothing was trained."""
    labels = trained(comparison)
    if not labels:
        return None
    others = [label for label in rows.done(comparison) if label not in labels]
    each = formats.verb(labels, "", ", each on the same data and training budget")
    alongside = f", alongside those of {formats.listed(others)}" if others else ""
    documents = formats.number_of(comparison.num_documents, "test document")
    return (
        f"{comparison.model} was fine-tuned with {formats.listed(labels)}{each}. The summaries of {documents} of "
        f"{comparison.data} were scored{alongside}."
    )


def failures(comparison: Comparison) -> str | None:
    """Which runs did not finish."""
    failed = [f"{label} ({rows.failure_note(row)})" for label, row in comparison.rows.items() if row.failed_seeds]
    return f"Runs that did not finish are left out of all figures: {', '.join(failed)}." if failed else None


def _scored(comparison: Comparison) -> str:
    labels = list(comparison.rows)
    sets = sum(len(row.seeds) for row in comparison.rows.values())
    in_all = f"; together they gave {sets} sets of predictions" if sets > len(labels) else ""
    return (
        f"The outputs of {formats.count_in_words(len(labels)).lower()} {formats.verb(labels, 'system', 'systems')} "
        f"({formats.listed(labels)}) on {_on_documents(comparison, labels, 'document')} were scored against "
        f"{comparison.data}{in_all}."
    )


def _on_documents(comparison: Comparison, labels: list[str], what: str) -> str:
    """`24 documents`, or, for several methods, `the same 24 documents` or `the same document`."""
    if len(labels) < 2:
        return formats.number_of(comparison.num_documents, what)
    number = comparison.num_documents
    return f"the same {what if number == 1 else formats.number_of(number, what)}"


def _seeds(comparison: Comparison) -> str:
    """` and 3 training seeds`; empty if nothing was trained."""
    counts = seed_counts(comparison.rows).values()
    if not counts:
        return ""
    least, most = min(counts), max(counts)
    seeds = "one training seed" if most == 1 else f"{most} training seeds"
    return f" and {f'{least} to ' if least < most else ''}{seeds}"


def _size(comparison: Comparison) -> str:
    """The number of parameters of the base model, in parentheses."""
    counts = {row.parameters.num_base_parameters for row in comparison.rows.values() if row.parameters is not None}
    return f" ({formats.count(counts.pop())} parameters)" if len(counts) == 1 else ""
