"""Simulate how often verdicts are wrong, intervals cover the truth, and differences are found.

    python benchmarks/verdict_simulation.py [--simulations 400] [--only PART] [--documents N ...] [--seed 0] [--quick]

The script prints the tables of `docs/statistics.md`; the parts are errors, uneven, untrained, power, former, zeros and
equivalence. `--quick` runs 50 simulations of two sizes as a check. `former_rule.py` prints what the previous rule finds
in the tables of `former`. All numbers come from the functions that `triptych compare` calls: document scores go into
`analysis.pairs.samples` and `paired_tests`, decisions and intervals come out.

Score of a document with a seed = common to all methods (SD 9) + method (SD 3) + seed (given SD) + seed and document
together (SD 6, or none).
"""

import argparse
import time
from collections.abc import Sequence

import numpy as np

from simulated_scores import COMPARED, MEAN, NOISE_SD, correlated_table, error_of, table
from triptych.analysis.pairs import mean_estimate, paired_tests, samples
from triptych.config.schema import Analysis

DOCUMENTS = (48, 200, 500, 3_000, 11_490)
SEED_SDS = (0.0, 0.2, 0.5, 1.0)
UNEQUAL = {
    "four with 2 seeds, two untrained": (2, 2, 2, 2, 0, 0),
    "four with 3 seeds, two untrained": (3, 3, 3, 3, 0, 0),
    "four with 5 seeds, two untrained": (5, 5, 5, 5, 0, 0),
    "three with 3 seeds, one with 2, two untrained": (3, 3, 3, 2, 0, 0),
    "one with 10 seeds, three with 2": (10, 2, 2, 2),
}
ANALYSIS = Analysis()


def rates(
    documents: int,
    seeds: int | Sequence[int],
    seed_sd: float | Sequence[float],
    noise_sd: float,
    simulations: int,
    rows: int = 4,
    seed: int = 0,
) -> dict[str, float]:
    """For equal methods, the shares of tables and first pairs called different, and the coverage of intervals.

    Args:
        documents: N.
        seeds: S, for all methods or for each; 0: not trained.
        seed_sd: SD of the seed means; one for each method, or one for all.
        noise_sd: SD of seed and document together.
        simulations: number of tables.
        rows: number of methods in a table.
        seed: seed of the simulation.

    Returns:
        The rates of these events. `table`: a table of all methods has a false "different"; `pair`: the same for two
        methods alone; `method` and `difference`: the interval of a method, and of a pair alone, covers the truth;
        `together`: all intervals of differences in the table cover it.
    """
    spreads = [int(100 * sd) for sd in np.ravel(seed_sd)]
    generator = np.random.default_rng([*[seed] * (seed > 0), documents, *np.ravel(seeds), *spreads, int(noise_sd)])
    trained = {f"row{row}": int(count) for row, count in enumerate(np.broadcast_to(seeds, rows)) if count}
    counted = dict.fromkeys(("table", "pair", "method", "difference", "together"), 0.0)
    for _ in range(simulations):
        found = samples(table(generator, documents, seeds, seed_sd, noise_sd, [0.0] * rows))
        tests = paired_tests(found, ANALYSIS, trained, power=False)
        counted["table"] += any(test.decision == "different" for test in tests)
        counted["pair"] += np.mean([test.p_value < 0.05 for test in tests])
        counted["difference"] += np.mean([test.single_low <= 0 <= test.single_high for test in tests])
        counted["together"] += all(test.low <= 0 <= test.high for test in tests)
        intervals = [mean_estimate(one["rouge1"]) for one in found.values()]
        counted["method"] += np.mean([one.low <= MEAN <= one.high for one in intervals])
    return {name: count / simulations for name, count in counted.items()}


def found(
    documents: int, seeds: int, seed_sd: float, noise_sd: float, difference: float, simulations: int, rows: int = 2
) -> float:
    """How often the first method, `difference` above the others, is called different from the second."""
    generator = np.random.default_rng([1, documents, seeds, int(100 * seed_sd), int(noise_sd)])
    count = 0
    for _ in range(simulations):
        shifts = [difference] + [0.0] * (rows - 1)
        scores = samples(table(generator, documents, seeds, seed_sd, noise_sd, shifts))
        tests = paired_tests(scores, ANALYSIS, dict.fromkeys(scores, seeds), power=False)
        count += tests[0].decision == "different"
    return count / simulations


def false_equivalence(documents: int, seeds: int, seed_sd: float, margin: float, simulations: int) -> float:
    """How often two methods that differ by exactly the margin are called equivalent."""
    generator = np.random.default_rng([2, documents, seeds, int(100 * seed_sd)])
    count = 0
    for _ in range(simulations):
        scores = samples(table(generator, documents, seeds, seed_sd, NOISE_SD, [margin, 0.0]))
        (test,) = paired_tests(scores, Analysis(margin=margin), dict.fromkeys(scores, seeds))
        count += max(test.p_not_worse, test.p_not_better) < 0.05
    return count / simulations


def zeros_coverage(documents: int, zeros: float, simulations: int, shape: str = "exponential") -> tuple[float, float]:
    """Coverage of a method's interval if a share `zeros` of the documents scores zero and the others 10 on average.

    The second number is the coverage of the difference from a method that scores zero everywhere.
    """
    generator = np.random.default_rng([3, documents, int(1000 * zeros), *shape.encode()])
    truth, row, pair = 10 * (1 - zeros), 0, 0
    for _ in range(simulations):
        values = generator.exponential(10, documents) if shape == "exponential" else generator.gamma(4, 2.5, documents)
        scores = np.where(generator.random(documents) < zeros, 0.0, values)
        one = samples({"a": {"rouge2": scores[None]}, "b": {"rouge2": np.zeros((1, documents))}})
        interval = mean_estimate(one["a"]["rouge2"])
        row += interval.low <= truth <= interval.high
        (test,) = paired_tests(one, ANALYSIS, {}, power=False)
        pair += test.single_low <= truth <= test.single_high
    return row / simulations, pair / simulations


def print_errors(simulations: int, sizes: Sequence[int], seed: int) -> None:
    """Print false verdicts and coverage by documents, seeds, seed SD and noise."""
    print(f"\nFour equal methods, {simulations} simulations a line")
    print("| documents | seeds | seed SD | noise | false table | false pair | method | difference | all differences |")
    print("|---|---|---|---|---|---|---|---|---|")
    cells: dict[tuple[int, int], list[dict[str, float]]] = {}
    for documents in sizes:
        for seeds in (1, 2, 3, 5):
            for noise in (NOISE_SD, 0.0):
                for seed_sd in (0.0,) if seeds == 1 else SEED_SDS:
                    if not seed_sd and not noise and seeds > 1:
                        continue  # seeds would be bit-identical
                    got = rates(documents, seeds, seed_sd, noise, simulations, seed=seed)
                    cells.setdefault((documents, seeds), []).append(got)
                    print(
                        f"| {documents:,} | {seeds} | {seed_sd:.1f} | {noise:.0f} | {got['table']:.1%} | "
                        f"{got['pair']:.1%} | {got['method']:.1%} | {got['difference']:.1%} | {got['together']:.1%} |",
                        flush=True,
                    )
    print_ranges(cells, sizes)


def print_ranges(cells: dict[tuple[int, int], list[dict[str, float]]], sizes: Sequence[int]) -> None:
    """Print the lowest and highest rate over seed SDs and noise, by documents and seeds."""
    for name in ("table", "pair", "method", "difference"):
        print(f"\n{name}, least to greatest over seed SDs and noise")
        print("| documents | 1 seed | 2 seeds | 3 seeds | 5 seeds |\n|---|---|---|---|---|")
        for documents in sizes:
            ranges = []
            for seeds in (1, 2, 3, 5):
                found_rates = [got[name] for got in cells[documents, seeds]]
                ranges.append(f"{min(found_rates):.1%}-{max(found_rates):.1%}")
            print(f"| {documents:,} | " + " | ".join(ranges) + " |")


def print_uneven(simulations: int, sizes: Sequence[int], seed: int) -> None:
    """Print rates for four equal methods, two of which vary ten times as much over seeds as the others."""
    print(f"\nSeed SDs 1.0, 1.0, 0.1 and 0.1, {simulations} simulations each: false tables, false pairs")
    print("| documents | 2 seeds | 3 seeds | 5 seeds |\n|---|---|---|---|")
    for documents in sizes:
        got = [rates(documents, seeds, (1.0, 1.0, 0.1, 0.1), NOISE_SD, simulations, seed=seed) for seeds in (2, 3, 5)]
        print(
            f"| {documents:,} | " + " | ".join(f"{one['table']:.1%}, {one['pair']:.1%}" for one in got) + " |",
            flush=True,
        )


def print_untrained(simulations: int, sizes: Sequence[int], seed: int) -> None:
    """Print rates of false verdicts for equal methods, some of which are untrained or have fewer seeds."""
    print(f"\n{simulations} simulations for each seed SD (0.2, 0.5, 1.0), with and without noise: false tables")
    print("| methods | " + " | ".join(f"{documents:,} documents" for documents in sizes) + " |")
    print("|---" * (len(sizes) + 1) + "|")
    for name, seeds in UNEQUAL.items():
        cells = []
        for documents in sizes:
            found_rates = [
                rates(documents, seeds, seed_sd, noise, simulations, len(seeds), seed)["table"]
                for seed_sd in SEED_SDS[1:]
                for noise in (NOISE_SD, 0.0)
            ]
            cells.append(f"{min(found_rates):.1%}-{max(found_rates):.1%}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def print_power(simulations: int, sizes: Sequence[int], seed: int) -> None:
    """Print how often a difference of 2.8 standard errors is found if seeds agree."""
    print(f"\nA difference of 2.8 standard errors, seeds that agree, {simulations} simulations each: found")
    print("| documents | seeds | two methods | one of four methods |")
    print("|---|---|---|---|")
    for documents in sizes:
        for seeds in (1, 2, 3, 5):
            size = 2.8 * error_of(documents, seeds, NOISE_SD)
            two, four = (found(documents, seeds, 0.0, NOISE_SD, size, simulations, rows) for rows in (2, 4))
            print(f"| {documents:,} | {seeds} | {two:.1%} | {four:.1%} |", flush=True)


def found_among(documents: int, seeds: int, noise_sd: float, rows: int, simulations: int) -> float:
    """How often a difference of 2.8 standard errors is found in the tables that `former_rule.py` also judges."""
    count = 0
    for scores in correlated_table(documents, seeds, noise_sd, rows, simulations):
        primary = samples({label: {"rouge1": measures["rouge1"]} for label, measures in scores.items()})
        tests = paired_tests(primary, ANALYSIS, dict.fromkeys(primary, seeds), power=False)
        count += tests[0].decision == "different"
    return count / simulations


def print_former(simulations: int, sizes: Sequence[int], seed: int) -> None:
    """Print results on the tables of five measures that `former_rule.py` judges with the previous rule."""
    print(
        f"\nTables of five measures, a difference of 2.8 standard errors, {simulations} simulations each: found on "
        "the first"
    )
    print("| documents | seeds | noise | two methods | one of four methods |")
    print("|---|---|---|---|---|")
    for documents, seeds, noise_sd in COMPARED:
        if documents in sizes:
            two, four = (found_among(documents, seeds, noise_sd, rows, simulations) for rows in (2, 4))
            print(f"| {documents:,} | {seeds} | {noise_sd:.0f} | {two:.1%} | {four:.1%} |", flush=True)


def print_zeros(simulations: int, sizes: Sequence[int], seed: int) -> None:
    """Print the coverage if most documents score zero."""
    print(f"\nCoverage with many zeros, {simulations} simulations each: a method, and its difference from one of zeros")
    print("| documents | 96% zeros | 90% | 80% | 40% | none |")
    print("|---|---|---|---|---|---|")
    for documents in (24, 48, 200, 500):
        cells = [zeros_coverage(documents, zeros, simulations) for zeros in (0.96, 0.9, 0.8, 0.4, 0.0)]
        print(f"| {documents} | " + " | ".join(f"{row:.1%}, {pair:.1%}" for row, pair in cells) + " |", flush=True)


def print_equivalence(simulations: int, sizes: Sequence[int], seed: int) -> None:
    """Print the rate of false equivalence at the margin."""
    print(f"\nTwo methods that differ by exactly the margin, {simulations} simulations each: called equivalent")
    print("| documents | seeds | seed SD 0.0 | 0.2 | 0.5 |")
    print("|---|---|---|---|---|")
    for documents in sizes:
        for seeds in (2, 3, 5):
            margin = 4 * error_of(documents, seeds, NOISE_SD)
            cells = [false_equivalence(documents, seeds, seed_sd, margin, simulations) for seed_sd in (0.0, 0.2, 0.5)]
            print(f"| {documents:,} | {seeds} | " + " | ".join(f"{cell:.1%}" for cell in cells) + " |", flush=True)


PARTS = {
    "errors": print_errors,
    "uneven": print_uneven,
    "untrained": print_untrained,
    "power": print_power,
    "former": print_former,
    "zeros": print_zeros,
    "equivalence": print_equivalence,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the requested parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=400, help="simulated comparisons per number")
    parser.add_argument("--only", choices=PARTS, help="run only this part")
    parser.add_argument("--documents", type=int, nargs="+", default=DOCUMENTS, help="only these numbers of documents")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulated tables of equal methods")
    parser.add_argument("--quick", action="store_true", help="50 simulations of 48 and 200 documents")
    chosen = parser.parse_args(arguments)
    simulations, documents = (50, (48, 200)) if chosen.quick else (chosen.simulations, chosen.documents)
    started = time.perf_counter()
    for name, part in PARTS.items():
        if chosen.only in (None, name):
            part(simulations, documents, chosen.seed)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
