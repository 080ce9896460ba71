"""`triptych compare`: run a comparison and report it."""

import argparse
import sys
from typing import Any

from triptych.cli.options import (
    EXAMPLES,
    Commands,
    add_detail_options,
    add_suite_options,
    flag_settings,
    wanted_detail,
)
from triptych.config import reading
from triptych.errors import ConfigError


def add_compare(commands: Commands) -> None:
    """Add the parser of `triptych compare`."""
    parser = commands.add_parser(
        "compare",
        help="run a comparison and report it",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLES,
        description="Run every method of a suite, compare them, and write tables and reports to OUT. If OUT "
        "already has the same suite, it is resumed, and new methods and seeds are added to it.",
    )
    parser.add_argument(
        "suite",
        nargs="?",
        metavar="SUITE.toml",
        help="a suite file (TOML, or the JSON in OUT/suite.json), or a results folder to resume or extend",
    )
    add_suite_options(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the runs, documents, disk and a time estimate from a few timed documents; write nothing",
    )
    parser.add_argument("--no-timing", action="store_true", help="with --dry-run: print only the plan, at once")
    parser.add_argument(
        "--within",
        metavar="TIME",
        help="choose seeds, test documents, epochs and training pairs for this much time (90s, 30min, 8h, 2d) as "
        "triptych plan does, the same for every method, and run that",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="start over; the contents of OUT are kept under another name"
    )
    parser.add_argument(
        "--executor",
        default="local",
        metavar="E",
        help="local: one run after another on this machine; "
        "ray: a Ray cluster on this machine; ray://HOST:PORT: a running cluster (default: local)",
    )
    parser.add_argument(
        "--run-cpus", type=float, default=1, metavar="N", help="cores per run on a Ray worker (default: 1)"
    )
    parser.add_argument("--run-gpus", type=float, default=0, metavar="N", help="GPUs per run (default: 0)")
    parser.add_argument("--run-memory", type=float, default=0, metavar="BYTES", help="memory per run (default: any)")
    add_detail_options(parser)
    parser.add_argument(
        "--events",
        action="store_true",
        help="print events as JSON lines on standard output, for programs, instead of the table (docs/events.md)",
    )
    parser.set_defaults(call=run_compare)


def run_compare(options: argparse.Namespace) -> int:
    """Run `triptych compare`."""
    from rich.console import Console

    from triptych import api
    from triptych.cli.progress import ProgressView, write_stream
    from triptych.suite.executors import Resources

    what = {
        "out": options.out,
        "preset": options.preset,
        "settings": flag_settings(options),
        "methods": reading.parse_labels(options.methods),
        "within": options.within,
        "fresh": options.fresh,
        "executor": options.executor,
        "resources": Resources(options.run_cpus, options.run_gpus, options.run_memory),
        "device": options.device,
        "plugins": options.plugin,
    }
    if options.dry_run:
        return _dry_run(options, what)
    if options.no_timing:
        raise ConfigError("--no-timing belongs to --dry-run: it prints the plan and times nothing.")
    with ProgressView(Console(stderr=True), wanted_detail(options)) as view:
        listener = write_stream(view) if options.events else view
        comparison = api.compare(options.suite, **what, listener=listener)
    if not options.events:
        from triptych.reporting.terminal import print_comparison
        from triptych.reporting.write import REPORT_FILES, TABLE_FILES

        print_comparison(Console(), comparison)
        print(f"\n{view.out}: {', '.join((*TABLE_FILES, *REPORT_FILES, 'runs/', 'log.txt'))}")
    if view.failed:
        print(
            f"triptych: failed: {', '.join(view.failed)}. Run the same command again to retry only these.",
            file=sys.stderr,
        )
    return 1 if view.failed else 0


def _dry_run(options: argparse.Namespace, what: dict[str, Any]) -> int:
    from rich.console import Console

    from triptych import api
    from triptych.cli.printing import print_text, show_times
    from triptych.cli.progress import DryRunView, write_stream
    from triptych.run.events import ignore

    timing = not options.no_timing
    if options.events:
        api.dry_run(options.suite, **what, timing=timing, listener=write_stream(ignore))
        return 0
    with DryRunView(Console(), timing) as view:
        found = api.dry_run(options.suite, **what, timing=timing, listener=view)
    show_times(view.console, found)
    if found.refusal is not None:
        print_text(view.console, f"note: compare would refuse to start: {found.refusal}")
    return 0
