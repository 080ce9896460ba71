"""`triptych score`: score the predictions of other tools, or those of a results folder by another metric."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from triptych.cli.options import Commands, add_common_options, add_set_option, as_path
from triptych.errors import ConfigError, shorten
from triptych.storage.files import named_path
from triptych.text.characters import for_terminal

SCORE_EXAMPLES = """examples:
  triptych score results/mine --metric my-metric --plugin my_metric.py
  triptych score mine=out/predictions.jsonl theirs=theirs.csv --out results/scores
  triptych score mine=seed-0.jsonl mine=seed-1.jsonl theirs=samples.jsonl --references test.csv
  triptych score t5=generated_predictions.txt --references references.txt"""


def add_score(commands: Commands) -> None:
    """Add the parser of `triptych score`."""
    parser = commands.add_parser(
        "score",
        help="score predictions of any tool, with tests and a report",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=SCORE_EXAMPLES,
        description="Score predictions of any tool, test the systems "
        "against each other on the same documents, and report. No model is loaded. Files are tables "
        "(.csv, .tsv, .jsonl, .parquet, also .gz) with the columns id, prediction and reference or the "
        "usual other names, samples of lm-evaluation-harness, or plain text, one prediction per line.",
    )
    parser.add_argument(
        "systems",
        nargs="+",
        metavar="NAME=FILE",
        help="a system and its predictions; the same name again adds "
        "another seed; or a results folder, whose stored predictions are scored by --metric",
    )
    parser.add_argument(
        "--references", metavar="FILE", help="a table or text with the references (default: the files' own)"
    )
    parser.add_argument(
        "--out", type=as_path, metavar="DIR", help="a folder for scores, tables and reports (default: print only)"
    )
    parser.add_argument("--no-report", action="store_true", help="tables only: no report.pdf and report.html")
    parser.add_argument(
        "--metric",
        action="append",
        metavar="M",
        help="a registered metric to score by in addition to ROUGE and the text's shape; repeatable (default: all)",
    )
    parser.add_argument(
        "--columns",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=NAME",
        help="the columns of id, prediction, reference or document, if their names are not the usual ones",
    )
    parser.add_argument("--by-order", action="store_true", help="join the files by the order of their rows, not by id")
    add_set_option(parser, "keys of a suite file for scoring and judging: [rouge] and [analysis]")
    add_common_options(parser, model=False)
    parser.set_defaults(call=run_score)


def run_score(options: argparse.Namespace) -> int:
    """Run `triptych score`."""
    from rich.console import Console

    from triptych.cli.progress import counting_bar
    from triptych.config.reading import parse_settings
    from triptych.reporting.terminal import print_comparison
    from triptych.reporting.write import REPORT_FILES, TABLE_FILES
    from triptych.scored.files import score

    if named_path(options.systems[0]).is_dir():
        return _score_folder(options)
    if options.no_report and options.out is None:
        raise ConfigError("Without --out DIR nothing is written: leave --no-report out, or give --out DIR.")
    with counting_bar(Console(stderr=True), "scoring") as progress:
        comparison = score(
            parse_systems(options.systems),
            references=options.references,
            out=options.out,
            report=not options.no_report,
            columns=parse_columns(options.columns),
            by_order=options.by_order,
            metrics=options.metric,
            settings=parse_settings(options.settings),
            plugins=options.plugin,
            progress=progress,
        )
    print_comparison(Console(), comparison)
    if options.out is None:
        print("\nNothing was written: --out DIR keeps the scores, tables and a report.")
    else:
        reports = () if options.no_report else REPORT_FILES
        print(f"\n{options.out}: {', '.join((*TABLE_FILES, *reports, 'scored.json', 'runs/'))}")
    return 0


def _score_folder(options: argparse.Namespace) -> int:
    from rich.console import Console

    from triptych.cli.progress import counting_bar
    from triptych.config.reading import parse_settings
    from triptych.plugins import import_plugins
    from triptych.reporting.terminal import print_comparison
    from triptych.scored.stored import rescore_all

    of_files = {
        "--references": options.references,
        "--out": options.out,
        "--columns": options.columns,
        "--by-order": options.by_order,
        "a second folder": options.systems[1:],
    }
    if given := next((name for name, value in of_files.items() if value), None):
        raise ConfigError(
            f"{options.systems[0]!r} is a results folder, and {given} is for files of predictions (NAME=FILE)."
        )
    import_plugins(options.plugin, ("metrics",))
    out, settings = named_path(options.systems[0]), parse_settings(options.settings)
    with counting_bar(Console(stderr=True), "scoring") as progress:
        outcomes = rescore_all(out, options.metric or (), settings, not options.no_report, progress)
    print_comparison(Console(), outcomes[-1].comparison)
    print()
    for outcome in outcomes:
        print(for_terminal(f"{outcome.message}{f' They are kept in {outcome.file}.' if outcome.file else ''}"))
    return 0


def parse_systems(texts: Sequence[str]) -> dict[str, list[str]]:
    """Parse `NAME=FILE` into the files of each name.

    Raises:
        ConfigError: there is no `=`, or no file after it.
    """
    systems: dict[str, list[str]] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not equals or not file:
            known = Path(text).is_file()
            hint = f": {Path(text).stem or 'mine'}={text}" if known else ", such as mine=predictions.jsonl"
            raise ConfigError(f"{shorten(repr(text))} is not NAME=FILE. Give each file the name of its system{hint}.")
        systems.setdefault(name, []).append(file)
    return systems


def parse_columns(texts: Sequence[str]) -> dict[str, str]:
    """Parse `KEY=NAME` into a dictionary."""
    pairs = {}
    for text in texts:
        key, equals, name = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"--columns {text[:100]!r} is not KEY=NAME, such as prediction=my_column.")
        pairs[key] = name
    return pairs
