"""Try faults of every kind against Triptych and count the outcomes.

    python scripts/torture_faults.py FOLDER [--only KIND,KIND] [--cases N] [--seed 0] [--first N]

The kinds are modules of `scripts/torture`. A case is drawn from the seed and its number: `--only KIND --first N --cases
1` repeats one case. Violations are printed as JSON and the counts as a Markdown table. The exit status is 1 if a result
was lost, a damaged file was believed, something hung, or the outcome was neither a result nor one message.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the tests' made-up results

from torture.kinds import KINDS, make
from torture.outcomes import Tally
from triptych.plugins import import_plugins


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder to work in; empty or new")
    parser.add_argument("--only", default=",".join(KINDS), metavar="KIND,KIND", help=f"kinds: {', '.join(KINDS)}")
    parser.add_argument("--cases", type=int, help="cases per kind (default: the long form)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    options = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    import_plugins()
    tally = Tally()
    for name in options.only.split(","):
        began = time.monotonic()
        kind = make(name, (options.folder / name).resolve())
        reason = kind.missing()
        if reason is not None:
            tally.skipped[kind.title] = reason
            continue
        kind.prepare()
        number_of_cases = kind.count() if options.cases is None else min(options.cases, kind.count() - options.first)
        for number in range(options.first, options.first + number_of_cases):
            case = kind.case(options.seed, number)
            tally.add(kind, number, case)
            print(f"{name} {number}: {case.outcome}: {case.what}", file=sys.stderr, flush=True)
        tally.seconds[name] = time.monotonic() - began
        print(f"{name}: {tally.seconds[name]:.0f} s", file=sys.stderr, flush=True)
    if tally.violations:
        print(json.dumps(tally.violations, indent=2))
    print(tally.table())
    return int(bool(tally.violations))


if __name__ == "__main__":
    sys.exit(main())
