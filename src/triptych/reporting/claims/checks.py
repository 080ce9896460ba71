"""Sentences about what models get wrong: numbers and names that are not in the article, copying, unfinished endings."""

from triptych.analysis.verdict import is_significant
from triptych.reporting.claims.selection import trained
from triptych.results.records import Comparison, OutputChecks, PairedTest
from triptych.text import formats

_MOST_PAIRS = 4  # maximum pairs that a sentence lists; if there are more, it gives their number
_NOTABLE = 5.0  # percent of summaries: a smaller share of unfinished ones is not mentioned


def unsupported(comparison: Comparison) -> str | None:
    """Which methods write numbers and names that are not in the article, and how often."""
    checks = comparison.checks
    labels = [label for label in trained(comparison) if checks is not None and label in checks.rows]
    if checks is None or not checks.documents_known or not labels:
        return None
    parts = [
        f"summaries with a {what} that is not in the article: {_listed(checks, labels, measure)}, and "
        f"{_percent(checks.references[measure])} of the references"
        for measure, what in (("wrong_numbers", "number"), ("wrong_names", "name"))
    ]
    return (
        f"{formats.capitalized('; '.join(parts))}. A number or name that is in the article may still be used wrongly, "
        "so these shares are lower bounds on the errors."
    )


def unsupported_tests(comparison: Comparison) -> str | None:
    """Which methods differ in unsupported numbers and names, by the paired tests."""
    checks = comparison.checks
    if checks is None or not checks.documents_known:
        return None
    parts = []
    for measure, what in (("wrong_numbers", "numbers"), ("wrong_names", "names")):
        tests = [test for test in checks.tests if test.metric == measure]
        apart = [test for test in tests if is_significant(test)]
        if tests:
            parts.append(f"for {what}, {_pairs(apart, len(tests))}")
    return f"By paired tests, corrected over the pairs of a measure: {'; '.join(parts)}." if parts else None


def extraction(comparison: Comparison) -> str | None:
    """How extractive the methods are, compared with the references and the lead."""
    checks = comparison.checks
    if checks is None or not checks.documents_known or not checks.rows:
        return None
    own, density = checks.references["coverage"], checks.references["density"]
    means = {label: row["coverage"].mean for label, row in checks.rows.items()}
    more = [label for label, mean in means.items() if mean > own]
    less = [label for label in means if label not in more]
    sides = [
        f"{formats.listed(labels)} {formats.verb(labels, 'is', 'are')} {what} extractive than the references"
        for labels, what in ((more, "more"), (less, "less"))
        if labels
    ]
    lead = max(checks.rows, key=lambda label: checks.rows[label]["lead_overlap"].mean)
    return (
        f"References take {_percent(own)} of their words from the article (coverage), in extractive fragments of "
        f"density {density:.2f}; by coverage, {' and '.join(sides)}. Summaries of {lead} share the most word pairs "
        f"with the first sentences ({_percent(checks.rows[lead]['lead_overlap'].mean)})."
    )


def unfinished(comparison: Comparison) -> str | None:
    """Which methods write summaries that do not end like a sentence."""
    checks = comparison.checks
    if checks is None:
        return None
    usual = checks.references["unfinished"]
    cut = [
        f"{label} {_percent(mean)}"
        for label, row in checks.rows.items()
        if (mean := row["unfinished"].mean) > usual + _NOTABLE
    ]
    if not cut:
        return None
    return f"Summaries that end without final punctuation: {', '.join(cut)}; references {_percent(usual)}."


def _listed(checks: OutputChecks, labels: list[str], measure: str) -> str:
    return formats.listed([f"{_percent(checks.rows[label][measure].mean)} ({label})" for label in labels])


def _pairs(apart: list[PairedTest], number: int) -> str:
    if not apart:
        return f"none of the {number} pairs differs significantly"
    if len(apart) > _MOST_PAIRS:
        return f"{len(apart)} of the {number} pairs differ significantly"
    found = [f"{test.a} − {test.b} ({formats.signed(test.difference, 1)} points)" for test in apart]
    return f"these pairs differ significantly: {formats.listed(found)}"


def _percent(value: float) -> str:
    return f"{value:.1f}%"
