"""How often verdicts are wrong, how often intervals cover, and how often differences are found, by simulation.

    python benchmarks/verdict_simulation.py [--simulations 400] [--only errors|power|zeros|equivalence]

prints the tables of `docs/statistics.md`. Every figure comes from the functions that `triptych compare` calls: scores of
documents go into `analysis.pairs.samples` and `paired_tests`, decisions and intervals come out.

Score of a document under a seed = common to all rows (SD 9) + of the row (SD 3) + of the seed (SD as said) + of seed and
document together (SD 6, or none).
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np

from triptych.analysis.pairs import Scores, estimate, paired_tests, samples
from triptych.config import Analysis

DOCUMENT_SD, ROW_SD, NOISE_SD = 9.0, 3.0, 6.0
DOCUMENTS = (48, 200, 500, 3_000, 11_490)
SEED_SDS = (0.0, 0.2, 0.5, 1.0)
MEAN = 40.0
ANALYSIS = Analysis()


def table(
    generator: np.random.Generator, documents: int, seeds: int, seed_sd: float, noise_sd: float, shifts: Sequence[float]
) -> Scores:
    """Scores of as many rows as there are shifts; the mean of a row is `MEAN` plus its shift."""
    common = generator.normal(MEAN, DOCUMENT_SD, documents)
    scores = {}
    for row, shift in enumerate(shifts):
        of_row = common + shift + generator.normal(0, ROW_SD, documents)
        of_seed = generator.normal(0, seed_sd, (seeds, 1))
        scores[f"row{row}"] = {"rouge1": of_row + of_seed + generator.normal(0, noise_sd, (seeds, documents))}
    return scores


def rates(
    documents: int, seeds: int, seed_sd: float, noise_sd: float, simulations: int, rows: int = 4
) -> dict[str, float]:
    """Equal rows: shares of tables and of first pairs called different, coverage of rows and of differences.

    Returns:
        `table`: a table of all rows holds a false "different"; `pair`: two rows alone do; `row` and `difference`: the interval
        of a row, and of a pair alone, holds the truth; `together`: all intervals of differences of the table do.
    """
    generator = np.random.default_rng([documents, seeds, int(100 * seed_sd), int(noise_sd)])
    counted = dict.fromkeys(("table", "pair", "row", "difference", "together"), 0.0)
    for _ in range(simulations):
        found = samples(table(generator, documents, seeds, seed_sd, noise_sd, [0.0] * rows))
        tests = paired_tests(found, ANALYSIS, dict.fromkeys(found, seeds), power=False)
        counted["table"] += any(test.decision == "different" for test in tests)
        counted["pair"] += np.mean([test.p_value < 0.05 for test in tests])
        counted["difference"] += np.mean([test.single_low <= 0 <= test.single_high for test in tests])
        counted["together"] += all(test.low <= 0 <= test.high for test in tests)
        intervals = [estimate(one["rouge1"]) for one in found.values()]
        counted["row"] += np.mean([one.low <= MEAN <= one.high for one in intervals])
    return {name: count / simulations for name, count in counted.items()}


def error_of(documents: int, seeds: int, noise_sd: float) -> float:
    """Standard error of the difference of two rows whose seeds agree."""
    return float(np.sqrt(2 * (ROW_SD**2 + noise_sd**2 / seeds) / documents))


def found(
    documents: int, seeds: int, seed_sd: float, noise_sd: float, difference: float, simulations: int, rows: int = 2
) -> float:
    """How often the first row, `difference` above the others, is called different from the second."""
    generator = np.random.default_rng([1, documents, seeds, int(100 * seed_sd), int(noise_sd)])
    count = 0
    for _ in range(simulations):
        shifts = [difference] + [0.0] * (rows - 1)
        scores = samples(table(generator, documents, seeds, seed_sd, noise_sd, shifts))
        tests = paired_tests(scores, ANALYSIS, dict.fromkeys(scores, seeds), power=False)
        count += tests[0].decision == "different"
    return count / simulations


def false_equivalence(documents: int, seeds: int, seed_sd: float, margin: float, simulations: int) -> float:
    """How often two rows that differ by exactly the margin are called equivalent."""
    generator = np.random.default_rng([2, documents, seeds, int(100 * seed_sd)])
    count = 0
    for _ in range(simulations):
        scores = samples(table(generator, documents, seeds, seed_sd, NOISE_SD, [margin, 0.0]))
        (test,) = paired_tests(scores, Analysis(margin=margin), dict.fromkeys(scores, seeds), power=False)
        count += max(test.p_not_worse, test.p_not_better) < 0.05
    return count / simulations


def zeros_coverage(documents: int, zeros: float, simulations: int, shape: str = "exponential") -> tuple[float, float]:
    """Coverage of a row's interval where a share `zeros` of the documents score zero and the others 10 on average, and the
    same for the difference from a row of zeros alone."""
    generator = np.random.default_rng([3, documents, int(1000 * zeros), *shape.encode()])
    truth, row, pair = 10 * (1 - zeros), 0, 0
    for _ in range(simulations):
        values = generator.exponential(10, documents) if shape == "exponential" else generator.gamma(4, 2.5, documents)
        scores = np.where(generator.random(documents) < zeros, 0.0, values)
        one = samples({"a": {"rouge2": scores[None]}, "b": {"rouge2": np.zeros((1, documents))}})
        interval = estimate(one["a"]["rouge2"])
        row += interval.low <= truth <= interval.high
        (test,) = paired_tests(one, ANALYSIS, {}, power=False)
        pair += test.single_low <= truth <= test.single_high
    return row / simulations, pair / simulations


def print_errors(simulations: int) -> None:
    """False verdicts and coverage by documents, seeds, seed SD and noise."""
    print(f"\nFour equal rows, {simulations} simulations a line")
    print("| documents | seeds | seed SD | noise | false table | false pair | row | difference | all differences |")
    print("|---|---|---|---|---|---|---|---|---|")
    cells: dict[tuple[int, int], list[dict[str, float]]] = {}
    for documents in DOCUMENTS:
        for seeds in (1, 2, 3, 5):
            for noise in (NOISE_SD, 0.0):
                for seed_sd in (0.0,) if seeds == 1 else SEED_SDS:
                    if not seed_sd and not noise and seeds > 1:
                        continue  # seeds that are bit-equal
                    got = rates(documents, seeds, seed_sd, noise, simulations)
                    cells.setdefault((documents, seeds), []).append(got)
                    print(
                        f"| {documents:,} | {seeds} | {seed_sd:.1f} | {noise:.0f} | {got['table']:.1%} | {got['pair']:.1%} | "
                        f"{got['row']:.1%} | {got['difference']:.1%} | {got['together']:.1%} |",
                        flush=True,
                    )
    print_ranges(cells)


def print_ranges(cells: dict[tuple[int, int], list[dict[str, float]]]) -> None:
    """The least and the greatest rate over seed SDs and noise, by documents and seeds."""
    for name in ("table", "pair", "row", "difference"):
        print(f"\n{name}, least to greatest over seed SDs and noise")
        print("| documents | 1 seed | 2 seeds | 3 seeds | 5 seeds |\n|---|---|---|---|---|")
        for documents in DOCUMENTS:
            ranges = []
            for seeds in (1, 2, 3, 5):
                found_rates = [got[name] for got in cells[documents, seeds]]
                ranges.append(f"{min(found_rates):.1%}-{max(found_rates):.1%}")
            print(f"| {documents:,} | " + " | ".join(ranges) + " |")


def print_power(simulations: int) -> None:
    """How often a difference of 2.8 standard errors is found where seeds agree."""
    print(f"\nA difference of 2.8 standard errors, seeds that agree, {simulations} simulations each: found")
    print("| documents | seeds | two rows | one of four rows |")
    print("|---|---|---|---|")
    for documents in DOCUMENTS:
        for seeds in (1, 2, 3, 5):
            size = 2.8 * error_of(documents, seeds, NOISE_SD)
            two, four = (found(documents, seeds, 0.0, NOISE_SD, size, simulations, rows) for rows in (2, 4))
            print(f"| {documents:,} | {seeds} | {two:.1%} | {four:.1%} |", flush=True)


def print_zeros(simulations: int) -> None:
    """Coverage where most documents score zero."""
    print(f"\nCoverage with many zeros, {simulations} simulations each: a row, and its difference from a row of zeros")
    print("| documents | 96% zeros | 90% | 80% | 40% | none |")
    print("|---|---|---|---|---|---|")
    for documents in (24, 48, 200, 500):
        cells = [zeros_coverage(documents, zeros, simulations) for zeros in (0.96, 0.9, 0.8, 0.4, 0.0)]
        print(f"| {documents} | " + " | ".join(f"{row:.1%}, {pair:.1%}" for row, pair in cells) + " |", flush=True)


def print_equivalence(simulations: int) -> None:
    """False equivalence at the margin."""
    print(f"\nTwo rows that differ by exactly the margin, {simulations} simulations each: called equivalent")
    print("| documents | seeds | seed SD 0.0 | 0.2 | 0.5 |")
    print("|---|---|---|---|---|")
    for documents in DOCUMENTS:
        for seeds in (2, 3, 5):
            margin = 4 * error_of(documents, seeds, NOISE_SD)
            cells = [false_equivalence(documents, seeds, seed_sd, margin, simulations) for seed_sd in (0.0, 0.2, 0.5)]
            print(f"| {documents:,} | {seeds} | " + " | ".join(f"{cell:.1%}" for cell in cells) + " |", flush=True)


PARTS = {"errors": print_errors, "power": print_power, "zeros": print_zeros, "equivalence": print_equivalence}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=400, help="simulated comparisons a figure")
    parser.add_argument("--only", choices=PARTS, help="this part alone")
    chosen = parser.parse_args()
    started = time.perf_counter()
    for name, part in PARTS.items():
        if chosen.only in (None, name):
            part(chosen.simulations)
    print(f"\n{time.perf_counter() - started:.0f} s")
