"""Compare recorded ROUGE scores with those of other tools, using only `predictions.jsonl`.

    python benchmarks/outside_rouge.py OUT

For every run of a results folder, this prints the means of `record.json`, of the package rouge_score called directly,
and, if it is installed (`pip install --no-deps lm-eval`), of lm-evaluation-harness's scoring code for the task
`cnn_dailymail_abisee`. For summaries that were not counted as English, rouge_score uses our tokenizer: the scores are
then its own, the words ours. The harness supports only English, has no rougeLsum, and its scores are in 0-1. The exit
status is 1 if a difference exceeds 1e-6.
"""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from rouge_score.rouge_scorer import RougeScorer

from triptych.metrics.rouge import sentence_per_line
from triptych.results.records import ROUGE_TYPES
from triptych.text.languages import ENGLISH
from triptych.text.tokenizers import tokenizer

TOLERANCE = 1e-6
Texts = list[str]


def plain(predictions: Texts, references: Texts, language: str = ENGLISH) -> dict[str, float]:
    """Means from rouge_score, with one sentence per line; for English with its own tokenizer and stemmer."""
    own = language == ENGLISH
    settings = {"use_stemmer": True} if own else {"tokenizer": tokenizer(language)}
    scorer = RougeScorer(list(ROUGE_TYPES), **settings)
    pairs = zip(predictions, references, strict=True)
    found = [
        scorer.score(sentence_per_line(reference), sentence_per_line(prediction)) for prediction, reference in pairs
    ]
    return {name: 100 * sum(scores[name].fmeasure for scores in found) / len(found) for name in ROUGE_TYPES}


def harness() -> ModuleType | None:
    """The task's scoring code, loaded from its file because the whole harness needs much more; None if missing."""
    package = importlib.util.find_spec("lm_eval")
    if package is None or not package.submodule_search_locations:
        return None
    file = Path(package.submodule_search_locations[0]) / "tasks/cnn_dailymail/utils.py"
    spec = importlib.util.spec_from_file_location("cnn_dailymail_abisee", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_harness(module: ModuleType) -> Callable[[Texts, Texts], dict[str, float]]:
    """The harness's scores in 0-100."""

    def score(predictions: Texts, references: Texts) -> dict[str, float]:
        found = module.calculate_rouge_scores(predictions, references)
        return {name: 100 * value for name, value in found.items()}

    return score


def main(out: Path) -> int:
    """Compare every run; return the exit status."""
    module = harness()
    largest = {"rouge_score": 0.0} | ({"lm-evaluation-harness": 0.0} if module else {})
    for file in sorted(out.glob("runs/*/*/predictions.jsonl")):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        recorded = json.loads((file.parent / "record.json").read_text())["rouge"]
        texts = [line["prediction"] for line in lines], [line["reference"] for line in lines]
        language = recorded.get("language") or ENGLISH  # older records lack it: all of them are counted as English
        found_by = {"rouge_score": plain(*texts, language)}
        if module is not None and language == ENGLISH:
            found_by["lm-evaluation-harness"] = of_harness(module)(*texts)
        for name, found in found_by.items():
            difference = max(abs(found[metric] - recorded[metric]) for metric in found)
            largest[name] = max(largest[name], difference)
            shown = ", ".join(f"{metric} {value:.4f}" for metric, value in found.items())
            print(f"{file.parent.relative_to(out / 'runs')}: {name}: {shown}; off by {difference:.1e}")
    for name, difference in largest.items():
        print(f"{name}: largest difference {difference:.1e}")
    return int(max(largest.values()) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
