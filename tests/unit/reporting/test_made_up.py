"""The tests' made-up records obey the laws of real ones."""

from support.made_up import make_comparison, make_results
from triptych.results import records


def test_made_up_comparison_survives_json() -> None:
    """A made-up comparison can be written as comparison.json and read back unchanged."""
    comparison = make_comparison(make_results(seeds=(0, 1), failed=(("lora", 1),)))
    assert records.Comparison.model_validate_json(comparison.model_dump_json()) == comparison
