"""`triptych score`: predictions of other tools, or those of a results folder by another metric."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from triptych.cli.options import Commands, add_common_options
from triptych.errors import ConfigError
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
        help="score predictions of any tool, tested and reported",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=SCORE_EXAMPLES,
        description="Score predictions that any tool wrote, test the systems "
        "against each other on the same documents, and report. No model is loaded. Files are tables "
        "(.csv, .tsv, .jsonl, .parquet, also .gz) with the columns id, prediction and reference or the "
        "usual other names, samples of lm-evaluation-harness, or plain text, a prediction a line.",
    )
    parser.add_argument(
        "systems",
        nargs="+",
        metavar="NAME=FILE",
        help="a system and its predictions; a name given again is "
        "another seed of it; or a results folder, whose stored predictions --metric scores",
    )
    parser.add_argument(
        "--references", metavar="FILE", help="a table or text with the references (default: the files' own)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="a folder for scores, tables and reports (default: print only)"
    )
    parser.add_argument("--no-report", action="store_true", help="tables alone: no report.pdf, no report.html")
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
        help="the columns of id, prediction, reference or document, where their names are not the usual ones",
    )
    parser.add_argument("--by-order", action="store_true", help="join the files by the order of their rows, not by id")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="keys of a suite file for scoring and judging: [rouge] and [analysis]",
    )
    add_common_options(parser)
    parser.set_defaults(call=run_score)


def run_score(options: argparse.Namespace) -> int:
    """Run `triptych score`."""
    from rich.console import Console

    from triptych.cli.progress import scoring_bar
    from triptych.config.reading import parse_settings
    from triptych.plugins import import_plugins
    from triptych.reporting.terminal import comparison_table
    from triptych.scored import files

    import_plugins(options.plugin, ("metrics",))
    if "=" not in options.systems[0] and Path(options.systems[0]).is_dir():
        return score_again(options)
    settings = parse_settings(options.settings)
    columns = files.named_columns(parse_pairs(options.columns))
    metrics = None if options.metric is None else tuple(options.metric)
    systems = files.parse_systems(options.systems)
    request = files.Request(systems, options.references, columns, options.by_order, metrics, settings)
    with scoring_bar(Console(stderr=True)) as tell:
        comparison, _ = files.score_and_publish(request, options.out, not options.no_report, tell)
    Console().print(comparison_table(comparison))
    if options.out is None:
        print("\nNothing was written: --out DIR keeps the scores, tables and a report.")
    else:
        reports = "" if options.no_report else "report.pdf, report.html, "
        print(f"\n{options.out}: comparison.json, comparison.csv, comparison.md, {reports}runs/")
    return 0


def score_again(options: argparse.Namespace) -> int:
    """`triptych score OUT --metric M`."""
    from rich.console import Console

    from triptych.cli.progress import scoring_bar
    from triptych.config.reading import parse_settings
    from triptych.config.schema import make_suite
    from triptych.reporting.terminal import comparison_table
    from triptych.scored import stored

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
    if not options.metric:
        raise ConfigError(
            f"{options.systems[0]!r} is a results folder: name what scores its predictions with --metric M."
        )
    out = Path(options.systems[0])
    settings = parse_settings(options.settings)
    if settings.keys() - {"rouge"}:
        raise ConfigError("Of a results folder, --set says how predictions are scored: rouge.language=NAME.")
    language = make_suite(settings).rouge.language if settings else None
    for name in options.metric:
        with scoring_bar(Console(stderr=True)) as tell:
            outcome = stored.rescore(out, name, not options.no_report, tell, language)
    Console().print(comparison_table(outcome.comparison))
    print(for_terminal(f"\n{outcome.said}{f' They are kept in {outcome.file}.' if outcome.file else ''}"))
    return 0


def parse_pairs(texts: Sequence[str]) -> dict[str, str]:
    """`KEY=NAME` as a dictionary."""
    pairs = {}
    for text in texts:
        key, equals, name = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"--columns {text[:100]!r} is not KEY=NAME, such as prediction=my_column.")
        pairs[key] = name
    return pairs
