"""`triptych train`: run one method of a suite, for a person, a launcher such as torchrun, or a suite."""

import argparse
from pathlib import Path
from typing import Any

from triptych.cli.options import (
    Commands,
    add_detail_options,
    add_suite_options,
    flag_settings,
    wanted_detail,
)
from triptych.config import reading
from triptych.errors import ConfigError
from triptych.models.quiet import quiet_libraries
from triptych.text import formats


def add_train(commands: Commands) -> None:
    """Add the parser of `triptych train`."""
    parser = commands.add_parser(
        "train",
        help="run one method of a suite",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run one method of a suite in this process, once for each of its seeds.",
    )
    parser.add_argument("label", metavar="LABEL", help="a method, a baseline, or a label that the suite defines")
    parser.add_argument("suite", nargs="?", metavar="SUITE.toml", help="a suite file, or a results folder to extend")
    add_suite_options(parser)
    add_detail_options(parser)
    parser.add_argument(
        "--events",
        action="store_true",
        help="print events as JSON lines, for programs; if standard input is a pipe, the run ends when it closes",
    )
    parser.add_argument(
        "--trial",
        type=float,
        metavar="RATE",
        help="with --events: make only the search trial with this learning rate, for the run that does the search",
    )
    parser.add_argument(
        "--lock",
        nargs=2,
        metavar=("DIR", "TOKEN"),
        help="with --events: end as soon as this results folder "
        "has another lock: it was moved, or another suite is using it",
    )
    parser.set_defaults(call=run_train)


def run_train(options: argparse.Namespace) -> int:
    """Run `triptych train`."""
    from rich.console import Console

    from triptych import api
    from triptych.cli.progress import ProgressView
    from triptych.suite.processes import end_with_launcher, is_rank

    for name in ("trial", "lock"):
        if vars(options)[name] is not None and not options.events:
            raise ConfigError(f"--{name} is for programs, and needs --events.")
    if is_rank():
        end_with_launcher()
    if options.events:
        return _run_as_child(options)
    with ProgressView(Console(stderr=True), wanted_detail(options)) as view:
        records = api.train(options.label, **_request(options), listener=view)
    for record in records if view.out is not None else ():
        rouge = record.rouge.rouge1 if record.rouge else None
        scores = f"test loss {formats.loss(record.loss.test)}, R-1 {formats.rouge_score(rouge)}"
        print(f"{view.out}/runs/{record.label}/{record.seed}: {scores}")
    return 0


def _run_as_child(options: argparse.Namespace) -> int:
    from triptych.plugins import import_plugins
    from triptych.results.lock import Lock
    from triptych.suite import one_method
    from triptych.suite.arguments import SuiteArguments
    from triptych.suite.method_request import make_request
    from triptych.suite.processes import end_with_parent

    with one_method.events_on_stdout() as write:
        lock = Lock(Path(options.lock[0]), options.lock[1]) if options.lock else None
        if lock is not None:
            lock.check()  # before OUT/suite.json is read
        import_plugins(options.plugin)
        quiet_libraries()
        given = SuiteArguments(options.suite, out=options.out)
        place = {"suite_file": given.file, "out": given.folder}
        request = make_request(options.label, **{**_request(options), **place})
        end_with_parent()
        one_method.run_as_child(request, lock, write, options.trial)
    return 0


def _request(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "suite_file": options.suite,
        "preset": options.preset,
        "settings": flag_settings(options, seeds=False),
        "methods": reading.parse_labels(options.methods),
        "seeds": None if options.seeds is None else reading.parse_seeds(options.seeds, "--seeds"),
        "out": options.out,
        "device": options.device,
        "plugins": options.plugin,
    }
