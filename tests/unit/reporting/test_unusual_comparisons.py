"""The report's sentences on unusual comparisons: one method, one document, nothing trained, nothing tested."""

from support.made_up import make_comparison, make_results
from triptych.analysis.advice import recommend
from triptych.reporting.claims import claims
from triptych.reporting.document import reductions, report_data
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


def test_what_was_not_tested_is_not_called_undecided() -> None:
    """With one document there are no tests, so no sentence says that a test found no difference."""
    found = sentences(make_results(documents=1))
    assert not {name: text for name, text in found.items() if "significant" in text or "data do not show" in text}
    assert found["loss-order"].split(". With")[0].endswith("last-layers (2.8850), prompt-tuning (3.2101)")
    assert "conclusion" not in found


def test_losses_without_tests_give_no_verdict_on_losses() -> None:
    """If documents have no losses, the losses are not tested: the conclusion is about R-1 alone."""
    results = make_results()
    for run in results.runs:
        for line in run.predictions:
            line.scores.pop("loss", None)
    found = sentences(results)
    assert "test loss" not in found["conclusion"] and "against-untuned" not in found
    assert "significantly" not in found["loss-order"] and "significantly" in found["method-order"]


def test_how_many_methods_is_in_plain_words() -> None:
    """All, none, one and some of the trained methods are worded as such, and worse ones are named."""
    found = sentences(make_results(("untuned", "lora"), seeds=(0, 1)))["against-untuned"]
    assert found.startswith("lora has a significantly lower test loss than the untouched model (untuned, ")
    found = sentences(make_results(("untuned", "lora", "full"), seeds=(0, 1)))["against-untuned"]
    assert found.startswith("Both trained methods have a significantly lower test loss than")
    results = make_results(("untuned", "lora", "full"), seeds=(0, 1))
    comparison = make_comparison(results)
    comparison.rows["full"].loss.test = 4.5
    for test in comparison.tests:
        if test.metric == "loss" and {test.a, test.b} == {"untuned", "full"}:
            test.difference, test.low, test.high = -0.5, -0.7, -0.3
    text = sentences(results, comparison)["against-untuned"]
    assert text.startswith("1 of the 2 trained methods has a significantly lower test loss than the untouched model")
    assert "; full has a significantly higher one. Differences" in text and "full +0.5000 [0.3000, 0.7000]." in text


def test_two_methods_have_no_neighbors() -> None:
    """An order of two methods says whether the two differ."""
    text = sentences(make_results(("lora", "full"), seeds=(0, 1, 2)))["loss-order"]
    assert text.endswith("full (2.5806), lora (2.7051); the two differ significantly.")


def test_a_single_method_above_the_lead_is_not_named_twice() -> None:
    """If no difference to the lead is significant, the sentence says so without naming the methods again."""
    results = make_results(("lead-3", "lora", "full"), documents=2, seeds=(0, 1))
    text = sentences(results)["against-lead"]
    assert text.endswith("lora has a higher mean (1 of the 2 trained methods), but not significantly.")


def test_costs_that_were_not_all_measured_are_not_compared() -> None:
    """Where the cost of a trained method is not known, no method is called the fastest of all of them."""
    results = make_results(("untuned", "prompt-tuning", "lora", "full"), seeds=(0, 1))
    for run in results.of("prompt-tuning"):
        run.record.cost.shared_note = "other processes used the GPU during training"
        run.record.provenance.device = "cuda"
    found = sentences(results)
    assert found["time"].startswith("Among the trained methods with a measurement, lora has the lowest training time")
    assert "cost-and-quality" not in found and "by mean R-1 and trainable parameters: " in found["front-of-trained"]
    assert "training time" not in found["front-of-trained"]


def test_equal_costs_single_out_no_method() -> None:
    """Of variants with equal parameters, compute and time, none has the fewest, the least or the shortest."""
    kinds = {"lora-a": "lora", "lora-b": "lora"}
    found = sentences(make_results(("untuned", *kinds), seeds=(0, 1, 2), kinds=kinds))
    assert found["trainable"] == "Both trained methods have the same number of trainable parameters, 294,912."
    assert not found.keys() & {"parameters-and-compute", "cost-and-quality", "differences"}
    assert "lora-b and lora-a have equally many trainable parameters (294,912)." in found["conclusion"]
    found = sentences(make_results(("prompt-tuning", "full")))
    assert found["parameters-and-compute"] == (
        "Here the fewest parameters go with the least compute: prompt-tuning trains the fewest and took the least."
    )


def test_a_difference_that_is_not_significant_is_no_gain() -> None:
    """What longer training brings is the difference with its interval, not a gain that no test has shown."""
    text = sentences(make_results(("lora", "full"), seeds=(0, 1, 2)))["cost-and-quality"]
    assert text.endswith("(57.5 s against 42.5 s); the difference in R-1 is +0.05 [−1.48, 1.41] (not significant).")


def test_equal_means_have_no_leader() -> None:
    """If two methods have the same best mean, such as 0 for empty summaries, neither is called the best."""
    results = make_results(("lora", "full"), seeds=(0,))
    for run in results.runs:
        for line in run.predictions:
            line.scores |= dict.fromkeys(("rouge1", "rouge2", "rougeL", "rougeLsum"), 0.0)
    found = sentences(results)
    assert found["apart"].startswith("By R-1, lora and full have the same best mean, 0.00. By test loss, full has")
    assert found["conclusion"].startswith(
        "By R-1, no trained method is the best: lora and full have the same best mean, 0.00. Of these, lora also has "
        "the fewest trainable parameters (294,912). By test loss"
    )
    assert "cost-and-quality" not in found


def test_one_trained_method_is_not_every_method() -> None:
    """With one trained method, the limits and what would strengthen the results are about that method."""
    found = sentences(make_results(("untuned", "lora")))
    assert found["limiting"].startswith("What limits these results: lora was trained once, so how much results vary")
    assert "training seeds, to judge the method and not only this trained model; " in found["would-change"]
    assert "differences" not in found


def test_five_seeds_are_no_limit() -> None:
    """With as many seeds as a spread needs, the number of seeds is not among the limits."""
    found = sentences(make_results(("lora", "full"), seeds=(0, 1, 2, 3, 4)))
    assert found["limiting"].startswith("What limits these results: the scores are for 24 test documents; ")


def test_no_number_of_documents_is_advised_for_an_impossible_difference() -> None:
    """Two documents cannot be multiplied to find a ROUGE difference above 100."""
    found = sentences(make_results(documents=2))
    assert "none is so large" not in found["would-change"]
    assert "these data do not show which is better in any of 6 pairs." in found["undecided"]


def test_the_verdict_names_methods_as_a_list() -> None:
    """The verdict joins the last of several names with `and`, and names the only other method."""
    assert "does not differ significantly from lead-3, full, last-layers, prompt-tuning and untuned. " in (
        make_comparison(make_results(documents=2, seeds=(0, 1))).verdict
    )
    verdict = make_comparison(make_results(("untuned", "lora"), seeds=(0, 1))).verdict
    assert "ROUGE-1), significantly better than untuned. " in verdict
    assert "nats per token), significantly lower than that of untuned. " in verdict


def test_the_verdict_on_one_trained_model_is_not_about_several() -> None:
    """With one trained method and one seed, the verdict is about this trained model."""
    assert make_comparison(make_results(("lead-3", "lora"))).verdict.endswith(
        "That is about this trained model: judging the method itself requires more training seeds."
    )
    assert make_comparison(make_results(("lead-3", "lora"), documents=2)).verdict.startswith(
        "By ROUGE-1, the trained model does not differ significantly from another method on these documents."
    )


def test_equal_means_have_no_leader_in_the_verdict() -> None:
    """If two methods have the same best mean, the verdict names both."""
    results = make_results(("lora", "full"), seeds=(0, 1, 2))
    for run in results.runs:
        for line in run.predictions:
            line.scores |= dict.fromkeys(("rouge1", "rouge2", "rougeL", "rougeLsum"), 0.0)
    assert make_comparison(results).verdict.startswith(
        "No clear winner: lora and full have the same best mean ROUGE-1, 0.00. The lowest test loss is that of full ("
    )


def test_a_margin_of_one_point_is_one_point() -> None:
    """An equivalence within a margin of 1 says `1 point`."""
    results = make_results(("lora", "full"), seeds=(0, 1, 2), documents=400, analysis={"margin": 1.0})
    for a, b in zip(results.of("lora"), results.of("full"), strict=True):
        for line, other in zip(a.predictions, b.predictions, strict=True):
            other.scores["rouge1"] = line.scores["rouge1"] + 0.01
    assert "leads, but is equivalent to lora within 1 point. " in make_comparison(results).verdict


def test_warnings_name_seeds_as_words() -> None:
    """Several seeds are `seeds 0 and 1`; a warning that applies to every finished seed names none."""
    failed = (("lora", 0), ("lora", 1))
    results = make_results(("untuned", "lora"), seeds=(0, 1, 2), failed=failed)
    comparison = make_comparison(results)
    flags = comparison.rows["lora"].flags
    assert flags[0].startswith("Seeds 0 and 1: The run failed: ")
    assert flags[1].startswith("The validation loss was still falling when training ended")
    assert sentences(results, comparison)["failures"].endswith(": lora (seeds 0 and 1 failed).")


def test_advice_without_a_limit_names_no_budget() -> None:
    """Without a limit, the advice does not speak of a budget, and an untested method is not called undecided."""
    results = make_results(("untuned", "lead-3", "lora", "full"), seeds=(0, 1), failed=(("full", 0), ("full", 1)))
    text = recommend(make_comparison(results)).text
    assert "budget" not in text and "Not considered:\n  full: no run of it finished." in text
    text = recommend(make_comparison(make_results(("lead-3", "lora"), documents=1))).text
    assert "does not differ significantly" not in text
    text = recommend(make_comparison(make_results(("lead-3", "lora"), documents=2, seeds=(0, 1)))).text
    assert "lead-3 does not differ significantly from lora and trains nothing, against 294,912 parameters." in text
    assert "Against the other method, on the same documents (ROUGE-1 of lora minus that of lead-3):" in text


def test_captions_name_measures_as_in_a_sentence() -> None:
    """A caption joins several measures with commas and one `and`, and writes `test loss` in lower case."""
    results = make_results(("untuned", "lora"))
    tables = report_data(results, make_comparison(results))["tables"]
    assert tables["tests"]["caption"].startswith("Paired tests on R-1 and test loss over the same documents")
    assert "Paired tests on R-2, R-L and R-Lsum over" in tables["tests-others"]["caption"]


def test_the_caption_of_checks_says_which_documents_were_checked() -> None:
    """If only some documents were checked, the caption says how many of all; without articles, there is no density."""
    results = make_results(("untuned", "lora"))
    comparison = make_comparison(results)
    comparison.checks.num_documents = 12
    caption = report_data(results, comparison)["tables"]["checks"]["caption"]
    assert caption.startswith("What models get wrong, in percent: the articles are not available, so only the share of")
    assert caption.endswith(" Checked on 12 of the 24 documents.")


def test_several_gpus_are_not_one() -> None:
    """The caption of the compute table speaks of `the GPUs` if there are several."""
    results = make_results(("untuned", "lora"))
    for run in results.runs:
        run.record.provenance.device, run.record.provenance.hardware = "cuda", {"num_processes": 4}
    caption = report_data(results, make_comparison(results))["tables"]["compute"]["caption"]
    assert "Utilization is the mean share of the GPUs in use" in caption


def test_examples_of_one_method_do_not_differ_between_methods() -> None:
    """With one trained method, no example is chosen for the largest difference between methods."""
    results = make_results(("untuned", "lora"))
    data = report_data(results, make_comparison(results))
    assert [example["why"] for example in data["examples"]] == ["Median", "Best", "Worst"]
    assert [example["main"] for example in data["examples"]] == [True, False, False]
    assert data["examples-rule"].startswith(
        "The examples are chosen by a fixed rule, from the R-1 of lora with the first seed: the documents with the "
        "median, the best and the worst score."
    )


def test_many_methods_are_counted_and_not_listed() -> None:
    """With many variants, sentences on significance and limits give their number instead of their names."""
    kinds = {f"lora-{rank}": "lora" for rank in range(1, 13)}
    results = make_results(("untuned", *kinds), seeds=(0, 1, 2), kinds=kinds, documents=12)
    found = sentences(results)
    assert (
        "but is not significantly better than 11 others. 12 of these have equally many trainable"
        in (found["conclusion"])
    )
    assert "but does not differ significantly from 11 others" in found["verdict"]
    assert "the validation loss of 12 methods was still falling" in found["limiting"]
    assert "more epochs for 12 methods" in found["would-change"]
    assert max(len(text) for name, text in found.items() if name in ("apart", "conclusion", "limiting")) < 700


def test_empty_summaries_are_not_called_the_same() -> None:
    """Two methods that wrote nothing are warned about as such, not as one method under two names."""
    results = make_results(("lora", "full"))
    for run in results.runs:
        run.record.text_shape.share_empty = 1.0
        for line in run.predictions:
            line.prediction = ""
    flags = all_flags(make_comparison(results))
    assert "lora, full: 100% of the summaries are empty." in flags
    assert not [flag for flag in flags if "same summaries" in flag or "equal ROUGE" in flag]
