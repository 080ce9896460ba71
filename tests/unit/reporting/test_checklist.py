"""The examiner's checklist: each required part of the coursework is in the report, with each method's numbers."""

import re
from pathlib import Path

import pytest

from support.made_up import make_comparison, make_results
from triptych.reporting import write_html
from triptych.text import formats

METHODS = ("prompt-tuning", "lora", "last-layers")
REASON = "Only a laptop was there."


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """The words of a report's page, whose text is that of the printed one."""
    results = make_results(seeds=(0, 1, 2), report={"reason": REASON})
    path = tmp_path_factory.mktemp("checklist") / "report.html"
    write_html(results, make_comparison(results), path)
    body = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", path.read_text("utf-8"), flags=re.S)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


COMPARISON = make_comparison(make_results(seeds=(0, 1, 2), report={"reason": REASON}))
ASKED = {
    "8.1.1 soft prompts against discrete prompts": "How does the introduction of “soft prompts” address",
    "8.1.2 scale and efficiency": "How does the efficiency of prompt tuning relate to the scale",
    "8.1.3 principles of LoRA": "What are the key principles behind Low-Rank Adaptation",
    "8.1.4 theory of low rank": "Discuss the theoretical implications of introducing low-rank adaptations",
    "8.2.1 soft embedding layer": "[num_prompts, embedding_size]",
    "8.2.1 low-rank matrices": "[input_dim, rank]",
    "8.2.1 the assignment's classifier": "pre-classifier",
    "8.2.2 the prompt begins as asked": "[SUMMARIZE]",
    "8.3 loss function": "The loss is the cross-entropy of the summary’s tokens",
    "8.3 optimizer and its constants": "AdamW (Loshchilov and Hutter, 2019; β₁ = 0.9, β₂ = 0.999, ε = 10⁻⁸)",
    "8.3 schedule and clipping": "Gradients are clipped at a norm of 1",
    "8.3 epochs and early stopping": "after 2 evaluations without improvement",
    "8.3 learning rates": "Hyperparameters of every method",
    "8.3 choices and their reasons": "prompt-tuning has 20 virtual tokens: the length beyond which",
    "8.3 analysis of what was learned": "What each method learned",
    "8.3 analysis of differences": "Where the methods differ, and what these data do not show",
    "8.3 conclusion": "significantly above",
    "8.5 cost against quality": "Cost against quality",
    "8.5 Pareto front": "Pareto front of the trained methods by mean R-1",
    "FAQ 1 reductions": "512 of 900 train pairs, 64 of 100 validation pairs",
    "FAQ 1 justification": REASON,
    "FAQ 5 errors": "What models get wrong",
}


@pytest.mark.parametrize("part", ASKED)
def test_each_part_that_is_asked_for_is_there(part: str, page: str) -> None:
    """Everything the coursework requires, by section, is found in the report's words."""
    assert ASKED[part] in page


@pytest.mark.parametrize("label", METHODS)
def test_each_method_has_the_numbers_that_are_asked_for(label: str, page: str) -> None:
    """8.2.3, 8.3 and 8.5: evaluation loss, every ROUGE, time, added parameters and compute of each of the three."""
    row = COMPARISON.rows[label]
    numbers = [
        formats.loss(row.loss.test),
        *(formats.rouge_score(getattr(row, name).mean) for name in ("rouge1", "rouge2", "rougeL", "rougeLsum")),
        formats.seconds(row.cost["train_seconds"]),
        formats.count(row.parameters.num_added_parameters),
        formats.quantity(row.cost["train_flops"], "flops"),
        formats.quantity(row.cost["peak_memory_bytes"], "bytes"),
    ]
    assert [number for number in numbers if number not in page] == []


def test_the_reason_for_reductions_is_the_authors_or_none(tmp_path: Path) -> None:
    """FAQ 1: without a reason from the author, and if the full job would not take long, no reason is claimed."""
    results = make_results(seeds=(0,))
    write_html(results, make_comparison(results), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "The author’s reason" not in page and "The reason is time" not in page
