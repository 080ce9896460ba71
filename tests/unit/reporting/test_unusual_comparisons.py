"""The report's sentences on unusual comparisons: one method, one document, nothing trained, nothing tested."""

from support.made_up import make_comparison, make_results
from triptych.analysis.advice import recommend
from triptych.reporting.claims import claims
from triptych.reporting.document import reductions
from triptych.reporting.export import to_markdown
from triptych.reporting.lines import all_flags, heading
from triptych.results.reading import Results
from triptych.results.records import Comparison


def sentences(results: Results, comparison: Comparison | None = None) -> dict[str, str]:
    """The texts of the claims by their names."""
    return {claim.name: claim.text for claim in claims(results, comparison or make_comparison(results))}


def test_one_document_is_not_many() -> None:
    """A single test document, or a single document of a split that was cut, is counted in the singular."""
    results = make_results(("untuned", "lora"), documents=1)
    for run in results.runs:
        run.record.data.splits["test"].truncated, run.record.data.splits["validation"].truncated = 0, 1
        run.record.data.splits["test"].shortened_for_loss = 1
        run.record.data.splits["train"].dropped_long_summary = 1
    comparison = make_comparison(results)
    texts = [*sentences(results, comparison).values(), heading(comparison), to_markdown(comparison), repr(comparison)]
    texts += [recommend(comparison).text, *reductions(results)]
    assert not [text for text in texts if "1 test documents" in text]
    assert [text for text in texts if "1 test document" in text]
    found = " ".join(reductions(results))
    assert "1 of the 900 train pairs was dropped because its summary" in found
    assert "1 of the 64 validation documents was cut to the limit" in found
    assert "1 test document was cut further, so that its whole reference fits" in found


def test_one_epoch_is_not_many() -> None:
    """A warning about training that lasted one epoch says `1 epoch`."""
    results = make_results(("untuned", "lora"), training={"max_epochs": 1, "patience": 1})
    for run in results.runs:
        if run.record.training is not None:
            run.record.training.epochs = run.record.training.best_epoch = 1
    flags = " ".join(all_flags(make_comparison(results)))
    assert "when training ended after 1 epoch: more" in flags


def test_a_failed_method_was_not_evaluated() -> None:
    """A method without a finished run is not among those that were evaluated, scored or fine-tuned."""
    results = make_results(("untuned", "lora", "full"), failed=(("full", 0),))
    found = sentences(results)
    assert found["setting"].startswith("Two methods (untuned and lora) were evaluated on the same 24 test documents")
    assert found["in-brief"] == (
        "tiny was fine-tuned with lora. The summaries of 24 test documents of newswire were scored, alongside those of "
        "untuned."
    )


def test_nothing_trained_has_no_training_seeds() -> None:
    """If only untrained methods were compared, the report names no training seeds and no limit on epochs."""
    results = make_results(("untuned", "lead-3"))
    assert sentences(results)["setting"] == (
        "Two methods (untuned and lead-3) were evaluated on the same 24 test documents of newswire, with the model "
        "tiny (124,439,808 parameters)."
    )
    assert not [sentence for sentence in reductions(results) if "epoch" in sentence]


def test_one_method_is_on_no_same_documents() -> None:
    """A single method was not evaluated on `the same` documents as another."""
    assert sentences(make_results(("lora",)))["setting"].startswith(
        "One method (lora) was evaluated on 24 test documents of newswire"
    )
