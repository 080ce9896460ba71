#!/usr/bin/env python3
"""Measure the time and peak resident memory of preparing a large CSV file, and of reusing the prepared data.

    python benchmarks/large_corpus.py [--gigabytes 1] [--train-documents 21000] [--folder DIR]

The script writes a synthetic CSV of articles with about 800 made-up words and summaries of eight words, without splits,
and prepares it twice with the built-in tokenizer, each time in a child process: the first tokenizes, the second uses
the cache. `--train-documents 0` uses all documents.
"""

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COLUMNS = ("id", "article", "highlights")


def write_csv(path: Path, size: int) -> int:
    """Write articles of made-up words until the file has `size` bytes; return their number."""
    draw = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(draw.choice(letters, draw.integers(2, 10))) for _ in range(20_000)])
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        while file.tell() < size:
            text = words[draw.integers(0, len(words), draw.integers(500, 1100))]
            sentences = [" ".join(text[i : i + 20]).capitalize() + "." for i in range(0, len(text), 20)]
            writer.writerow((f"a{count}", " ".join(sentences), " ".join(text[:8])))
            count += 1
    return count


def prepare(path: Path, cache: Path, train_documents: int) -> dict:
    """Prepare the file in this process; return time and memory."""
    from triptych.models.base import BaseModel
    from triptych.plugins import import_plugins
    from triptych.run import entries
    from triptych.run.corpus import load_corpus

    import_plugins()
    limits = {
        "train_documents": train_documents,
        "validation_documents": 1000,
        "test_documents": 1000,
        "document_tokens": 400,
        "summary_tokens": 64,
    }
    suite, table = entries.resolve({"model": "tiny", "data": str(path), "limits": limits, "methods": ["prompt-tuning"]})
    base = BaseModel("tiny")
    _ = base.tokenizer
    began = time.perf_counter()
    corpus = load_corpus(suite, table, base, cache)
    seconds = time.perf_counter() - began
    used = {name: counts.used for name, counts in corpus.data.splits.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "seconds": round(seconds, 2),
        "peak_resident_bytes": peak,
        "used": used,
        "fingerprint": corpus.data.fingerprint,
    }


def main() -> None:
    """Write the file, prepare it twice and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument(
        "--train-documents", type=int, default=21_000, help="a sample of the training split; 0: all of it"
    )
    parser.add_argument("--folder", type=Path, help="folder for the file and the cache (default: a temporary one)")
    parser.add_argument("--prepare", nargs=2, metavar=("CSV", "CACHE"), type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        table, kept = options.prepare
        print(json.dumps(prepare(table, kept, options.train_documents)))
        return
    with tempfile.TemporaryDirectory(prefix="triptych-", dir=options.folder) as folder:
        path, cache = Path(folder) / "articles.csv", Path(folder) / "cache"
        count = write_csv(path, int(options.gigabytes * 1e9))
        print(json.dumps({"csv_bytes": path.stat().st_size, "documents": count}), flush=True)
        limit = str(options.train_documents)
        command = [sys.executable, __file__, "--train-documents", limit, "--prepare", str(path), str(cache)]
        for name in ("first", "again"):
            line = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
            print(json.dumps({"run": name, **json.loads(line)}), flush=True)


if __name__ == "__main__":
    main()
