"""How often the previous decision rule detected a true difference, using its original code.

    git worktree add FOLDER 0f88a4f
    PYTHONPATH=FOLDER/src python benchmarks/former_rule.py [--simulations 400] [--resamples 3000] [--documents N ...]

The rule: a sign-flip test over documents, Holm's correction over method pairs and five measures together, and an
uncorrected 95% interval, bootstrapped over documents and seeds, that excludes zero. The tables are those of
`verdict_simulation.py --only former`: the same simulated scores, five measures with a correlation of 0.9.
"""

import argparse
from itertools import combinations

import numpy as np
from triptych.analysis.statistics import resample_documents, resample_seeds

from simulated_scores import COMPARED, Scores, correlated_table
from triptych.analysis import comparison as former  # from commit 0f88a4f
from triptych.analysis.verdict import is_significant


def judged_different(scores: Scores, resamples: int) -> bool:
    """Whether the first method is called different from the second on the first measure."""
    former.PERMUTATIONS = resamples
    stacked = np.concatenate([values for measures in scores.values() for values in measures.values()]).T
    means = iter(np.split(resample_documents(stacked, resamples, np.random.default_rng(0)), len(stacked.T), axis=1))
    drawn = {
        label: {
            measure: former._Scores(
                values,
                resample_seeds(np.hstack([next(means) for _ in values]), former._row_generator(label)),
            )
            for measure, values in measures.items()
        }
        for label, measures in scores.items()
    }
    return is_significant(former._tests(drawn, list(combinations(drawn, 2)))[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=400, help="simulated comparisons per number")
    parser.add_argument("--resamples", type=int, default=3_000, help="number of resamples and permutations")
    parser.add_argument(
        "--documents", type=int, nargs="+", default=(48, 200, 3_000), help="only these numbers of documents"
    )
    chosen = parser.parse_args()
    print(f"A difference of 2.8 standard errors, {chosen.simulations} simulations each: found")
    print("| documents | seeds | noise | two methods | one of four methods |")
    print("|---|---|---|---|---|")
    for documents, seeds, noise_sd in COMPARED:
        if documents in chosen.documents:
            two, four = (
                np.mean(
                    [
                        judged_different(scores, chosen.resamples)
                        for scores in correlated_table(documents, seeds, noise_sd, rows, chosen.simulations)
                    ]
                )
                for rows in (2, 4)
            )
            print(f"| {documents:,} | {seeds} | {noise_sd:.0f} | {two:.1%} | {four:.1%} |", flush=True)
