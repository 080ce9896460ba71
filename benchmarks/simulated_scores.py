"""Simulated document scores for `verdict_simulation.py` and `former_rule.py`; nothing from the package is used.

Score of a document with a seed = common to all methods (SD 9) + method (SD 3) + seed (given SD) + seed and document
together (SD 6, or none).
"""

from collections.abc import Iterator, Sequence

import numpy as np

DOCUMENT_SD, ROW_SD, NOISE_SD = 9.0, 3.0, 6.0
MEAN = 40.0
MEASURES = ("rouge1", "rouge2", "rougeL", "rougeLsum", "loss")
CORRELATION = 0.9  # between two measures of the same document
COMPARED = [
    (documents, seeds, noise)
    for documents in (48, 200, 3_000)
    for seeds, noise in ((1, NOISE_SD), (2, NOISE_SD), (3, NOISE_SD), (5, NOISE_SD), (3, 0.0))
]

Scores = dict[str, dict[str, np.ndarray]]  # by method and measure: [seeds, documents]


def table(
    generator: np.random.Generator,
    documents: int,
    seeds: int | Sequence[int],
    seed_sd: float | Sequence[float],
    noise_sd: float,
    shifts: Sequence[float],
) -> Scores:
    """Scores of one method per shift; the mean of a method is `MEAN` plus its shift.

    Seeds and their SD are given per method or for all; a method with 0 seeds is not trained.
    """
    common = generator.normal(MEAN, DOCUMENT_SD, documents)
    scores = {}
    of_rows = (np.broadcast_to(values, len(shifts)) for values in (seeds, seed_sd))
    for row, (shift, count, sd) in enumerate(zip(shifts, *of_rows, strict=True)):
        of_row = common + shift + generator.normal(0, ROW_SD, documents)
        of_seed = generator.normal(0, sd, (count, 1)) + generator.normal(0, noise_sd, (count, documents))
        scores[f"row{row}"] = {"rouge1": of_row + (of_seed if count else np.zeros((1, 1)))}
    return scores


def error_of(documents: int, seeds: int, noise_sd: float) -> float:
    """The standard error of the difference between two methods whose seeds agree."""
    return float(np.sqrt(2 * (ROW_SD**2 + noise_sd**2 / seeds) / documents))


def correlated_table(documents: int, seeds: int, noise_sd: float, rows: int, simulations: int) -> Iterator[Scores]:
    """Tables of five correlated measures; the first method is 2.8 standard errors above the others, and seeds agree."""
    generator = np.random.default_rng([77, documents, seeds, int(noise_sd), rows])
    size = 2.8 * error_of(documents, seeds, noise_sd)

    def noise(sd: float, shape: int | tuple[int, int]) -> list[np.ndarray]:
        shared = generator.normal(0, 1, shape)
        own = (generator.normal(0, 1, shape) if sd else shared for _ in MEASURES)
        return [sd * (np.sqrt(CORRELATION) * shared + np.sqrt(1 - CORRELATION) * one) for one in own]

    for _ in range(simulations):
        common = noise(DOCUMENT_SD, documents)
        scores = {}
        for row in range(rows):
            own, left = noise(ROW_SD, documents), noise(noise_sd, (seeds, documents))
            scores[f"row{row}"] = {
                measure: common[place] + own[place] + (0 if row else size) + left[place]
                for place, measure in enumerate(MEASURES)
            }
        yield scores
