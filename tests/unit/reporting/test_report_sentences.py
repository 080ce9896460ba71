"""Every sentence of the report on one small comparison, written out by hand, and the numbers that each of them
shows."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from support.made_up import make_comparison, make_results
from triptych.reporting.claims import claims
from triptych.reporting.document import report_data
from triptych.results.reading import Results
from triptych.results.records import Architecture, Comparison, Estimate, PairedTest, Record, RowLoss, TextShape

# label: test loss, its interval, loss before training, R-1, its interval
QUALITY = {
    "untuned": (3.9, 3.8, 4.0, 3.95, 14.0, 12.0, 16.0),
    "lead-3": (None, None, None, None, 31.5, 30.0, 33.0),
    "prompt-tuning": (3.2, 3.1, 3.3, 3.97, 21.0, 19.0, 23.0),
    "lora": (2.7, 2.6, 2.8, 3.95, 32.25, 30.25, 34.25),
    "last-layers": (2.8, 2.7, 2.9, 3.95, 27.5, 25.5, 29.5),
    "full": (2.6, 2.5, 2.7, 3.95, 32.0, 30.5, 33.5),
}
# label: training seconds, training and plain FLOPs, peak memory, energy, seconds of the search
COST = {
    "prompt-tuning": (30.0, 1.5e12, 3.0e12, 400e6, 900.0, 11.0),
    "lora": (40.0, 2.0e12, 2.5e12, 500e6, 1000.0, 12.0),
    "last-layers": (20.0, 1.0e12, 4.0e12, 300e6, 500.0, 13.0),
    "full": (60.0, 3.0e12, 3.0e12, 900e6, None, 14.0),
}
# label: words of a summary, shares of new pairs, of repeated triples and of summaries at the limit
SHAPE = {
    "untuned": (60.0, 0.9, 0.25, 1.0),
    "lead-3": (70.0, 0.0, 0.01, 0.0),
    "prompt-tuning": (50.0, 0.5, 0.05, 0.125),
    "lora": (40.0, 0.3, 0.02, 0.0),
    "last-layers": (45.0, 0.4, 0.03, 0.0),
    "full": (42.0, 0.35, 0.04, 0.0),
}
# a, b, measure: difference, its interval, adjusted p, decision
TESTS = {
    ("prompt-tuning", "lora", "rouge1"): (-11.25, -14.0, -8.5, 0.0004, "different"),
    ("prompt-tuning", "last-layers", "rouge1"): (-6.5, -9.5, -3.5, 0.012, "different"),
    ("lora", "last-layers", "rouge1"): (4.75, -0.25, 9.75, 0.06, "undecided"),
    ("lora", "full", "rouge1"): (0.25, -0.75, 1.25, 0.7, "equivalent"),
    ("lead-3", "lora", "rouge1"): (-0.75, -2.5, 1.0, 0.4, "undecided"),
    ("lead-3", "full", "rouge1"): (-0.5, -0.9, -0.1, 0.03, "different"),
    ("prompt-tuning", "lora", "rouge2"): (-3.75, -5.0, -2.5, 0.0001, "different"),
    ("untuned", "lora", "rouge1"): (-18.25, -21.0, -15.5, 0.0001, "different"),
    ("untuned", "full", "rouge1"): (-18.0, -21.0, -15.0, 0.0001, "different"),
    ("untuned", "prompt-tuning", "rouge1"): (-7.0, -10.0, -4.0, 0.0001, "different"),
    ("untuned", "prompt-tuning", "loss"): (0.7, 0.5, 0.9, 0.0001, "different"),
    ("untuned", "lora", "loss"): (1.2, 1.0, 1.4, 0.0001, "different"),
    ("untuned", "last-layers", "loss"): (1.1, -0.1, 2.3, 0.08, "undecided"),
    ("untuned", "full", "loss"): (1.3, 1.1, 1.5, 0.0001, "different"),
    ("lora", "last-layers", "loss"): (-0.1, -0.3, 0.1, 0.2, "undecided"),
    ("lora", "full", "loss"): (0.1, -0.1, 0.3, 0.5, "undecided"),
    ("last-layers", "full", "loss"): (0.2, 0.05, 0.35, 0.01, "different"),
    ("prompt-tuning", "last-layers", "loss"): (0.4, 0.2, 0.6, 0.001, "different"),
}


def small() -> tuple[Results, Comparison]:
    """Runs of two seeds, one of them failed, whose comparison has the numbers above."""
    results = make_results(seeds=(0, 1), failed=(("lora", 1),))
    for run in results.runs:
        if run.record.data is not None:
            run.record.data.splits["train"].not_sampled = 9_999_488
        if run.record.training is not None:
            run.record.training.best_epoch = 2 if run.record.label == "lora" else 3
            run.record.options["weight_decay"] = 0.01 if run.record.label == "full" else 0.0
            run.record.cost.train_seconds = 40.0
    for run, seconds in zip(results.of("last-layers"), (40.0, 20.0), strict=True):
        run.record.notes = {"trunk_cache": {"first_block": 10, "flops": 2e12, "making_seconds": seconds}}
    comparison = make_comparison(results)
    for label, row in comparison.rows.items():
        loss, loss_low, loss_high, before, mean, low, high = QUALITY[label]
        row.loss = RowLoss(initial=before, test=loss, mean=loss, low=loss_low, high=loss_high)
        row.rouge1 = Estimate(mean=mean, low=low, high=high)
        words, new, repeated, capped = SHAPE[label]
        row.text_shape = TextShape(
            prediction_words=words,
            reference_words=41.0,
            share_at_cap=capped,
            share_empty=0.0,
            novel_bigrams=new,
            longest_copied_words=9.0,
            repeated_trigrams=repeated,
        )
        if label in COST:
            names = ("train_seconds", "train_flops", "plain_flops", "peak_memory_bytes", "energy_joules")
            row.cost |= dict(zip((*names, "search_seconds"), COST[label], strict=True))
    comparison.tests = [
        PairedTest(
            a=a,
            b=b,
            metric=metric,
            difference=difference,
            low=low,
            high=high,
            p_value=0.0,
            p_value_adjusted=p_value,
            decision=decision,
        )
        for (a, b, metric), (difference, low, high, p_value, decision) in TESTS.items()
    ]
    comparison.inference.detectable = {"rouge1": 4.72, "loss": 0.0625}
    comparison.verdict, comparison.pareto = "No clear winner.", ["lead-3", "last-layers", "lora"]
    return results, comparison


SENTENCES = {
    "in-brief": (
        "tiny was fine-tuned with prompt-tuning, lora, last-layers and full, each on the same data and training "
        "budget. The summaries of 24 test documents of newswire were scored, alongside those of untuned and lead-3."
    ),
    "setting": (
        "Six methods (untuned, lead-3, prompt-tuning, lora, last-layers and full) were evaluated on the same 24 test "
        "documents of newswire, with the model tiny (124,439,808 parameters) and 1 to 2 training seeds."
    ),
    "synthetic": (
        "The model and the data are built in and synthetic: these results show that the pipeline works, and say "
        "nothing about real models or documents."
    ),
    "verdict": "No clear winner.",
    "best-rouge": (
        "The highest mean test R-1 is that of lora, 32.25 (95% interval 30.25 to 34.25); the lowest is that of "
        "untuned, 14.00 (95% interval 12.00 to 16.00). With one training seed of lora, this is about the trained "
        "models, not the methods."
    ),
    "method-order": (
        "By mean test R-1, the three methods under study rank, from lowest to highest: prompt-tuning (21.00), "
        "last-layers (27.50), lora (32.25); these neighbors do not differ significantly: last-layers and lora. With "
        "one training seed of lora, this is about the trained models, not the methods."
    ),
    "against-lead": (
        "The three leading sentences of the document (lead-3), which cost nothing, score R-1 31.50 (95% interval 30.00 "
        "to 33.00); lora and full have a higher mean (2 of the 4 trained methods), but lora does not differ "
        "significantly from it."
    ),
    "best-loss": (
        "The lowest test loss, in nats per target token, is that of full: 2.6000 (95% interval 2.5000 to 2.7000); lora "
        "does not differ significantly. With one training seed of lora, this is about the trained models, not the "
        "methods."
    ),
    "against-untuned": (
        "3 of the 4 trained methods have a significantly lower test loss than the untouched model (untuned, 3.9000 "
        "nats per target token); last-layers does not differ significantly. Differences, with corrected 95% intervals: "
        "prompt-tuning −0.7000 [−0.9000, −0.5000]; lora −1.2000 [−1.4000, −1.0000]; last-layers −1.1000 "
        "[−2.3000, 0.1000] (undecided); full −1.3000 [−1.5000, −1.1000]."
    ),
    "loss-order": (
        "The trained methods by test loss, lowest first: full (2.6000), lora (2.7000), last-layers (2.8000), "
        "prompt-tuning (3.2000); these neighbors do not differ significantly: full and lora; lora and last-layers. "
        "With one training seed of lora, this is about the trained models, not the methods."
    ),
    "loss-and-rouge": (
        "Loss and ROUGE do not rank the trained methods alike: in 1 of 6 pairs (lora and full, whose losses do not "
        "differ significantly) the method with the lower test loss has the lower mean R-1."
    ),
    "test-counts": (
        "Two methods are called different if the paired test rejects at 5% after correction over the pairs of one "
        "measure, that is, if the printed interval excludes zero; equivalent if their difference is shown to be "
        "smaller than the margin; otherwise undecided. Pairs that differ: 6 of 9 on R-1, 1 of 1 on R-2 and 5 of 8 on "
        "the test loss."
    ),
    "method-tests": (
        "Differences in R-1 between the methods under study: prompt-tuning minus lora: −11.25 [−14.00, −8.50], "
        "adjusted p < 0.001, different; prompt-tuning minus last-layers: −6.50 [−9.50, −3.50], adjusted p = 0.012, "
        "different; lora minus last-layers: +4.75 [−0.25, 9.75], adjusted p = 0.060, undecided."
    ),
    "time": (
        "Among the trained methods, last-layers has the lowest training time (20.0 s) and full the highest (60.0 s)."
    ),
    "trainable": (
        "Among the trained methods, prompt-tuning has the lowest number of trainable parameters (15,360) and full the "
        "highest (124,439,808)."
    ),
    "compute": (
        "Among the trained methods, last-layers has the lowest training compute (1.00 TFLOP) and full the highest "
        "(3.00 TFLOP)."
    ),
    "memory": (
        "Among the trained methods, last-layers has the lowest peak memory during training (300 MB) and full the "
        "highest (900 MB)."
    ),
    "energy": (
        "Among the trained methods with a measurement, last-layers has the lowest energy (500 J) and lora the highest "
        "(1.00 kJ)."
    ),
    "parameters-and-compute": (
        "The fewest parameters do not mean the least compute: prompt-tuning trains the fewest parameters and took "
        "1.50 TFLOP; last-layers took the least, 1.00 TFLOP."
    ),
    "saved": (
        "Executed FLOPs, as a share of those that the same training would need without the exact speed-ups: "
        "prompt-tuning 50.0%, lora 80.0%, last-layers 25.0%, full 100.0%."
    ),
    "trunk-cache": (
        "The output of the frozen blocks below everything that is trained never changes, so it is computed once and "
        "read from a cache in every epoch. Building the cache took: last-layers 30.0 s and 2.00 TFLOP. These "
        "operations count as training compute; the seconds count as preparation of the run that built the cache, not "
        "as training time."
    ),
    "search": (
        "The learning-rate search is run once for all seeds and is not included in these figures; it took: "
        "prompt-tuning 11.0 s, lora 12.0 s, last-layers 13.0 s, full 14.0 s."
    ),
    # 40 s for 1,536 documents, four methods, two seeds, ten epochs: 20,833,333 s
    "whole-job": (
        "The reason is time: at the speed measured here, the optimizer steps of 10 epochs on all 10,000,000 training "
        "pairs would take 5787 h 02 min for all methods and seeds; those of this comparison took 4 min 40 s."
    ),
    "differences": (
        "The trained methods differ in which parameters are trained, and also in their weight decay and in the "
        "positions that virtual tokens take up."
    ),
    "shapes-base": "The base model here is tiny, of type gpt2: 4 blocks of width 128.",
    "shapes-prompt-tuning": (
        "In this run prompt-tuning has [num_prompts, embedding_size] = [20, 768], 15,360 parameters."
    ),
    "shapes-lora": "In this run lora has rank 8 on 12 weights (c_attn), 294,912 parameters.",
    "shapes-last-layers": (
        "In this run last-layers trains the last 2 blocks with the final norm (head: frozen): 14,177,280 parameters, 0 "
        "of them added."
    ),
    "loss-and-optimizer": (
        "The loss is the cross-entropy of the summary's tokens, given the document: minus the log-likelihood of the "
        "summary, the same for every method. It is minimized by AdamW (Loshchilov and Hutter, 2019; β₁ = 0.9, β₂ = "
        "0.999, ε = 10⁻⁸), with a weight decay of 0 and 0.01 on matrices. Its steps are scaled for each parameter by "
        "the size of past gradients, so that one optimizer works for a prompt of a few vectors and for a whole "
        "network."
    ),
    "schedule": (
        "Each optimizer step uses 4 documents in one pass, without gradient accumulation. The learning rate rises "
        "over the first 5.0% of the steps of 2 epochs, while the optimizer's moment estimates are still rough, and "
        "then stays at its peak until the validation loss stops falling. Training then returns to the best weights, "
        "and the rate decays linearly to zero over 0.5 times as many steps as had led to them, so that methods that "
        "learn fast and methods that need all epochs both end at low rates. If the validation loss does not fall "
        "during the decay, training restarts from the untrained weights and ends, with a decay of its own, after as "
        "many steps as had led to the best weights. Gradients are clipped at a norm of 1, so that one unusual batch "
        "cannot undo the steps before it."
    ),
    "stopping": (
        "Training lasts at most 3 epochs. The validation loss is computed after every epoch, and the decay begins "
        "after 2 evaluations without improvement. The weights with the lowest validation loss are evaluated on the "
        "test split, so that a method that overfits is judged at its best."
    ),
    "choices": (
        "prompt-tuning has 20 virtual tokens: the length beyond which Lester et al. (2021) saw little gain. lora has "
        "rank 8 and α = 16, so that the update is scaled by 2, on c_attn of every block (queries, keys and values in "
        "one matrix): Hu et al. (2021) found very small ranks sufficient when attention weights are adapted. "
        "last-layers trains the last 2 blocks and the final norm (two, as in the comparison of Li and Liang, 2021), "
        "not the head: in GPT-2 the head is the token embedding matrix itself, so training it would also change the "
        "input embeddings, and training a copy would add a matrix of the same size. full trains all weights, as the "
        "reference for what the model can learn from these data."
    ),
    "decoding": (
        "All summaries are generated by beam search with 4 beams, without repeating a sequence of 3 tokens, with at "
        "most 96 tokens."
    ),
    "epochs": (
        "The evaluated weights are those with the lowest validation loss; epochs: prompt-tuning 3 of 3, 3 of 3; lora 2 "
        "of 3; last-layers 3 of 3, 3 of 3; full 3 of 3, 3 of 3."
    ),
    "loss-against-rouge": (
        "full lowers the test loss of untuned by 1.3000 nats per target token and raises R-1 by 18.00. The other "
        "methods that improve both significantly reach these shares of the two gains: prompt-tuning 53.8% and 38.9%; "
        "lora 92.3% and 101.4%."
    ),
    "stopping-and-length": (
        "Share of summaries cut off at the limit of new tokens: prompt-tuning 12.5%, lora 0.0%, last-layers 0.0%, "
        "full 0.0%, untuned 100.0%. prompt-tuning does not always stop in time. Compared with the references' 41.0 "
        "words, summaries are about as long: lora (40.0), last-layers (45.0) and full (42.0); longer: prompt-tuning "
        "(50.0). Shorter summaries lose recall and gain precision, so part of a difference in ROUGE between methods "
        "can be due to length."
    ),
    "copying-in-words": (
        "Word pairs that are not in the article: prompt-tuning 50.0%, lora 30.0%, last-layers 40.0%, full 35.0%; "
        "longest run of copied words: prompt-tuning 9.0, lora 9.0, last-layers 9.0, full 9.0, where the article's "
        "first sentences (lead-3) copy 9.0 words in a row. prompt-tuning uses the most word pairs that are not in the "
        "article, lora the fewest; a new pair may be paraphrase or invention, and only a reader or the checks of names "
        "and numbers can tell which. Repeated word triples are most frequent in prompt-tuning (5.0%)."
    ),
    "gaps": (
        "Training and validation loss at the evaluated epoch: prompt-tuning 3.7000 and 3.2500; lora 3.2000 and 2.8833; "
        "last-layers 3.4000 and 2.9500; full 3.1000 and 2.6500. lora has a higher validation loss after that epoch: "
        "more of the same training would fit the training pairs, not the task."
    ),
    "apart": (
        "By R-1, lora has the best mean, 32.25 (95% interval 30.25 to 34.25): significantly above prompt-tuning "
        "(+11.25 [8.50, 14.00]); equivalent to full; not significantly different from last-layers. By test loss, full "
        "has the best mean, 2.6000 (95% interval 2.5000 to 2.7000): significantly below last-layers (−0.2000 [−0.3500, "
        "−0.0500]); not significantly different from lora."
    ),
    "undecided": (
        "By R-1, these data do not show which is better: lora − last-layers (+4.75 [−0.25, 9.75]); the interval "
        "contains zero."
    ),
    "cost-and-quality": (
        "lora, with the best mean R-1, trains 2.0 times as long as last-layers, the fastest (40.0 s against 20.0 s); "
        "the difference in R-1 is +4.75 [−0.25, 9.75] (not significant)."
    ),
    "front-of-trained": (
        "Pareto front of the trained methods by mean R-1 and training time: last-layers (27.50, 20.0 s), lora (32.25, "
        "40.0 s); dominated: prompt-tuning by last-layers, full by lora. By mean R-1 and trainable parameters: "
        "prompt-tuning (21.00, 15,360), lora (32.25, 294,912); dominated: last-layers by lora, full by lora."
    ),
    "limiting": (
        "What limits these results: lora was trained once, so how much results vary between training runs is unknown; "
        "the scores are for 24 test documents; the validation loss of prompt-tuning, last-layers and full was still "
        "falling when training ended; the model and the data are synthetic."
    ),
    "would-change": (
        "What would strengthen these results: three or more training seeds of lora, to compare the methods and not "
        "only these trained models; more epochs for prompt-tuning, last-layers and full; a pretrained model and real "
        "documents."
    ),
    "conclusion": (
        "By R-1, no trained method is significantly the best: lora has the best mean, 32.25 (95% interval 30.25 to "
        "34.25), but is not significantly better than full and last-layers. Of these, lora also has the fewest "
        "trainable parameters (294,912). By test loss, no trained method is significantly the best: full has the best "
        "mean, 2.6000 (95% interval 2.5000 to 2.7000), but is not significantly better than lora and prompt-tuning. "
        "full scores significantly above the article's first three sentences (lead-3, R-1 31.50). With one training "
        "seed of lora, all of this is about the trained models, not about the methods."
    ),
    "power": (
        "Minimum detectable difference between the two methods that are hardest to compare, after the correction (80% "
        "power): 4.72 points of R-1 and 0.0625 nats of test loss; smaller ones may have been missed."
    ),
    "failures": "Runs that did not finish are left out of all figures: lora (seed 1 failed).",
    "missing-meters": "Not measured: energy (full).",
    "theory-soft-prompts": (
        "prompt-tuning trains 15,360 parameters and reaches a test loss of 3.2000 and R-1 21.00 (95% interval 19.00 "
        "to 23.00)."
    ),
    "theory-scale": "R-1 minus that of full fine-tuning (full): prompt-tuning −11.00.",
    "theory-scale-compute": (
        "The trainable parameters of prompt-tuning amount to 0.012% of the model's, and its training compute to 50.0% "
        "of that of full."
    ),
    "theory-lora": (
        "lora trains 294,912 parameters and reaches a test loss of 2.7000 and R-1 32.25 (95% interval 30.25 to 34.25)."
    ),
    "theory-lora-start": (
        "Before training, the validation loss is 3.9500 for untuned and, with B = 0, the same for lora."
    ),
    "theory-low-rank": ("R-1 minus that of full fine-tuning (full): lora +0.25 (equivalent), last-layers −4.50."),
}


def test_every_sentence_of_a_small_comparison() -> None:
    """Each sentence says what a reader would conclude from the numbers above, in the report's order."""
    made = claims(*small())
    assert {claim.name: claim.text for claim in made} == SENTENCES
    assert [claim.name for claim in made] == list(SENTENCES)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (("gpt2", 12, 768), None),
        (
            ("llama", 30, 576),
            "The base model here is tiny, of type llama: 30 blocks of width 576; wte, ln_f and lm_head stand for its "
            "input embeddings, final norm and output head.",
        ),
        (
            None,
            "The base model here is tiny; wte, ln_f and lm_head stand for its input embeddings, final norm and output "
            "head.",
        ),
    ],
)
def test_the_shape_of_the_base_model_is_told_where_it_is_not_gpt2_small(shape, text) -> None:
    """The report's equations use GPT-2's names; for another model the report explains them."""
    results, comparison = small()
    keys = ("model_type", "num_blocks", "hidden_size")
    for run in results.runs:
        if run.record.provenance is None:  # it failed
            continue
        run.record.provenance.architecture = shape and Architecture(**dict(zip(keys, shape, strict=True)))
    assert {c.name: c.text for c in claims(results, comparison)}.get("shapes-base") == text


def test_sentences_on_scored_files() -> None:
    """For files written by other tools, sentences refer to systems and sets of predictions."""
    results = make_results(("lora", "full"), seeds=(0, 1))
    comparison = make_comparison(results).model_copy(update={"source": "files"})
    assert claims(results, comparison)[0].text == (
        "The outputs of two systems (lora and full) on the same 24 documents were scored against newswire; "
        "together they gave 4 sets of predictions."
    )


# Which sentences change when a number of the comparison or of a record grows by a tenth; other numbers appear in none.
ROWS = {
    "rouge1.mean": "best-rouge method-order against-lead loss-and-rouge theory-soft-prompts theory-scale theory-lora "
    "theory-low-rank apart conclusion cost-and-quality front-of-trained loss-against-rouge",
    "rouge1.low": "best-rouge against-lead theory-soft-prompts theory-lora apart conclusion",
    "rouge1.high": "best-rouge against-lead theory-soft-prompts theory-lora apart conclusion",
    "loss.test": "best-loss against-untuned loss-order loss-and-rouge theory-soft-prompts theory-lora apart conclusion "
    "loss-against-rouge",
    "loss.mean": "apart conclusion",
    "loss.low": "best-loss apart conclusion",
    "loss.high": "best-loss apart conclusion",
    "loss.initial": "theory-lora-start",
    "cost.train_seconds": "time cost-and-quality front-of-trained",
    "cost.train_flops": "compute parameters-and-compute saved theory-scale-compute",
    "cost.plain_flops": "saved",
    "cost.peak_memory_bytes": "memory",
    "cost.energy_joules": "energy",
    "cost.search_seconds": "search",
    "parameters.num_base_parameters": "setting theory-scale-compute",
    "parameters.num_trainable_parameters": "trainable theory-soft-prompts theory-scale-compute theory-lora conclusion "
    "front-of-trained",
    "text_shape.prediction_words": "stopping-and-length",
    "text_shape.reference_words": "stopping-and-length",
    "text_shape.novel_bigrams": "copying-in-words",
    "text_shape.longest_copied_words": "copying-in-words",
    "text_shape.repeated_trigrams": "copying-in-words",
    "text_shape.share_at_cap": "stopping-and-length",
    "failed_seeds.0": "failures",
}
TESTED = {
    end: "against-untuned method-tests apart undecided cost-and-quality" for end in ("difference", "low", "high")
} | {"p_value_adjusted": "method-tests"}
WHOLE = {
    "num_documents": "in-brief setting limiting",
    "inference.detectable.rouge1": "power",
    "inference.detectable.loss": "power",
}
RECORDS = {
    "training.epochs": "epochs gaps limiting would-change",
    "training.best_epoch": "epochs gaps limiting would-change",
    "training.documents": "whole-job",
    "cost.train_seconds": "whole-job",
    "data.splits.train.used": "whole-job",
    "data.splits.train.not_sampled": "whole-job",
    "notes.trunk_cache.making_seconds": "trunk-cache",
    "notes.trunk_cache.flops": "trunk-cache",
    "options.num_virtual_tokens": "shapes-prompt-tuning choices",
    "options.rank": "shapes-lora choices",
    "options.alpha": "choices",
    "options.num_blocks": "shapes-last-layers choices",
    "options.weight_decay": "loss-and-optimizer",
    "search.chosen": "differences",
    "parameters.num_added_parameters": "shapes-prompt-tuning shapes-lora",
    "parameters.num_trainable_parameters": "shapes-last-layers",
}
UNCHANGED = ("schema_version", "seeds", "seed", "config", "provenance")


def test_a_changed_number_changes_the_sentences_that_show_it() -> None:
    """If any number of a comparison changes, exactly the sentences that depend on it change."""
    results, comparison = small()
    whole = comparison.model_dump()
    seen: dict[str, set[str]] = {}
    for path in numbers({key: value for key, value in whole.items() if key not in UNCHANGED}):
        kind = {"rows": ".".join(path[2:]), "tests": ".".join(path[2:])}.get(path[0], ".".join(path))
        changed = Comparison.model_validate(change(whole, path))
        seen.setdefault(f"{path[0]}: {kind}", set()).update(differing(results, comparison, results, changed))
    expected = {f"rows: {path}": names for path, names in ROWS.items()}
    expected |= {f"tests: {path}": names for path, names in TESTED.items()}
    expected |= {f"{path.split('.')[0]}: {path}": names for path, names in WHOLE.items()}
    assert {path: names for path, names in seen.items() if names} == {
        path: set(names.split()) for path, names in expected.items()
    }


def test_a_changed_number_of_a_record_changes_the_sentences_that_show_it() -> None:
    """If any number of a run's record changes, exactly the sentences that depend on it change."""
    results, comparison = small()
    seen: dict[str, set[str]] = {}
    for place, run in enumerate(results.runs):
        record = run.record.model_dump()
        for path in numbers({key: value for key, value in record.items() if key not in UNCHANGED}):
            other = replace(run, record=Record.model_validate(change(record, path)))
            runs = (*results.runs[:place], other, *results.runs[place + 1 :])
            names = differing(results, comparison, replace(results, runs=runs), comparison)
            seen.setdefault(".".join(path), set()).update(names)
    assert {path: names for path, names in seen.items() if names} == {
        path: set(names.split()) for path, names in RECORDS.items()
    }


def numbers(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all nonzero numbers in nested data (many zeros mean that there is nothing)."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value:
            yield path
    elif isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(item, (*path, str(key)))


def change(data: dict, path: tuple[str, ...]) -> dict:
    """A copy in which one number is a tenth larger."""
    changed = copy.deepcopy(data)
    inner: Any = changed
    for key in path[:-1]:
        inner = inner[int(key) if isinstance(inner, list) else key]
    last = int(path[-1]) if isinstance(inner, list) else path[-1]
    old = inner[last]
    inner[last] = old + max(1, old // 10) if isinstance(old, int) else old * 1.1
    return changed


def differing(results: Results, comparison: Comparison, others: Results, other: Comparison) -> set[str]:
    """The names of the sentences that differ between both."""
    before, after = ({c.name: c.text for c in claims(*pair)} for pair in ((results, comparison), (others, other)))
    return {name for name in before | after if before.get(name) != after.get(name)}


ODD_VALUES = ["auto", [2], {"q": 2}, True, -3, 0, 2.5, 10**400, float("nan"), float("inf"), None]


@pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: repr(value)[:12])
def test_options_of_other_types_than_ours_do_not_stop_a_report(value):
    """A user's method may reuse our options' names with another meaning, and a damaged record may have any value."""
    names = ("learning_rate", "weight_decay", "num_virtual_tokens", "rank", "alpha", "target_modules", "num_blocks")
    results = make_results()
    runs = []
    for run in results.runs:
        record = run.record.model_copy(update={"options": dict.fromkeys((*names, "head", "final_norm"), value)})
        runs.append(replace(run, record=record.model_copy(update={"search": None})))
    results = replace(results, runs=tuple(runs))
    assert report_data(results, make_comparison(results))
