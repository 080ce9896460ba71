"""Our ROUGE beside that of other tools, on nothing but `predictions.jsonl`.

    python benchmarks/outside_rouge.py OUT

For every run of a results folder: the means of `record.json`, of the package rouge_score called directly, and, where it is
installed (`pip install --no-deps lm-eval`), of lm-evaluation-harness's own scoring code for the task `cnn_dailymail_abisee`.
Ends with status 1 where a difference is above 1e-6. The harness has no rougeLsum, and gives its scores in 0-1.
"""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from rouge_score.rouge_scorer import RougeScorer

from triptych.metrics.rouge import TYPES, one_sentence_a_line

TOLERANCE = 1e-6
Texts = list[str]


def plain(predictions: Texts, references: Texts) -> dict[str, float]:
    """Means by rouge_score alone, with a stemmer and a sentence a line."""
    scorer = RougeScorer(list(TYPES), use_stemmer=True)
    pairs = zip(predictions, references, strict=True)
    found = [scorer.score(one_sentence_a_line(reference), one_sentence_a_line(prediction)) for prediction, reference in pairs]
    return {name: 100 * sum(scores[name].fmeasure for scores in found) / len(found) for name in TYPES}


def harness() -> ModuleType | None:
    """The scoring code of the task, loaded by its file, since the whole harness needs much more; None: not installed."""
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
    """Its scores in 0-100."""

    def score(predictions: Texts, references: Texts) -> dict[str, float]:
        found = module.calculate_rouge_scores(predictions, references)
        return {name: 100 * value for name, value in found.items()}

    return score


def main(out: Path) -> int:
    """Compare every run; returns the exit status."""
    tools = {"rouge_score": plain}
    module = harness()
    if module is not None:
        tools["lm-evaluation-harness"] = of_harness(module)
    largest = dict.fromkeys(tools, 0.0)
    for file in sorted(out.glob("runs/*/*/predictions.jsonl")):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        recorded = json.loads((file.parent / "record.json").read_text())["rouge"]
        texts = [line["prediction"] for line in lines], [line["reference"] for line in lines]
        for name, score in tools.items():
            found = score(*texts)
            difference = max(abs(found[metric] - recorded[metric]) for metric in found)
            largest[name] = max(largest[name], difference)
            shown = ", ".join(f"{metric} {value:.4f}" for metric, value in found.items())
            print(f"{file.parent.relative_to(out / 'runs')}: {name}: {shown}; off by {difference:.1e}")
    for name, difference in largest.items():
        print(f"{name}: largest difference {difference:.1e}")
    return int(max(largest.values()) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
