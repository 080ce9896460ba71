"""Write the first pairs of a data set from the Hugging Face Hub as CSV files, for benchmarks that need a folder.

    python scripts/fetch_data.py OUT [--name abisee/cnn_dailymail] [--config 3.0.0] [--train 1000] [--test 500]

OUT becomes a folder with `train.csv`, `validation.csv` and `test.csv`, with the columns of Kaggle's CNN/DailyMail files
(`id,article,highlights`). The texts belong to their publishers: keep them out of repositories and reports.
"""

import argparse
import csv
import sys
from itertools import islice
from pathlib import Path

from triptych.contracts import Dataset
from triptych.datasets.hub import Hub
from triptych.errors import TriptychError


def write_pairs(data: Dataset, out: Path, limits: dict[str, int]) -> dict[str, int]:
    """Write the first pairs of each split; return the number written for each.

    Args:
        data: the data set.
        out: the folder.
        limits: the number of pairs per split, 0 for all.
    """
    out.mkdir(parents=True, exist_ok=True)
    counts = {}
    for split, limit in limits.items():
        with (out / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "article", "highlights"])
            counts[split] = 0
            for pair in islice(data.examples(split), limit or None):
                writer.writerow([pair.id, pair.document, pair.summary])
                counts[split] += 1
    return counts


def main() -> int:
    """Parse the command line and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", default="abisee/cnn_dailymail", help="name of the data set: OWNER/NAME")
    parser.add_argument("--config", default="3.0.0", help="its configuration; an empty string for none")
    parser.add_argument("--train", type=int, default=1000, help="training pairs, 0 for all")
    parser.add_argument("--validation", type=int, default=1000, help="validation pairs, 0 for all")
    parser.add_argument("--test", type=int, default=500, help="test pairs, 0 for all")
    options = parser.parse_args()
    limits = {"train": options.train, "validation": options.validation, "test": options.test}
    try:
        counts = write_pairs(Hub(name=options.name, config=options.config or None), options.out, limits)
    except TriptychError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    print(f"{options.out}: {', '.join(f'{count:,} {split}' for split, count in counts.items())} pairs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
