"""`triptych report`, `advise` and `bundle`: a results folder in use."""

import argparse
from pathlib import Path

from triptych.cli.options import Commands, add_common_options, add_set_option
from triptych.config import reading
from triptych.text.characters import for_terminal


def add_report(commands: Commands) -> None:
    """Add the parser of `triptych report`."""
    parser = commands.add_parser(
        "report",
        help="write tables and reports from records",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Compare the runs in OUT again and write comparison.json, the tables and the "
        "reports there. Several OUTs are joined into one table, if their runs may be compared, in --to.",
    )
    parser.add_argument("out", nargs="+", metavar="OUT", type=Path, help="results folders")
    parser.add_argument("--to", type=Path, metavar="DIR", help="where to write (default: OUT, if there is one only)")
    parser.add_argument(
        "--without-texts",
        action="store_true",
        help="leave out every summary, generated or of the reference: for data that may not be passed on",
    )
    add_set_option(
        parser,
        "what the author adds, kept in OUT/suite.json: report.title, report.author, report.course, report.date, "
        "report.reason (why less of the data was used); OUT/discussion.md, in Markdown, is taken into the report",
    )
    add_common_options(parser)
    parser.set_defaults(call=run_report)


def run_report(options: argparse.Namespace) -> int:
    """Run `triptych report`."""
    from rich.console import Console

    from triptych import api
    from triptych.reporting.terminal import comparison_table

    settings = reading.parse_settings(options.settings)
    comparison = api.report(options.out, to=options.to, texts=not options.without_texts, settings=settings)
    Console().print(comparison_table(comparison))
    print(f"\n{options.to or options.out[0]}: comparison.json, comparison.csv, comparison.md, report.pdf, report.html")
    return 0


def add_advise(commands: Commands) -> None:
    """Add the parser of `triptych advise`."""
    parser = commands.add_parser(
        "advise",
        help="name the best row within a budget",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Name the best row of a finished comparison within a budget, with the evidence "
        "and its uncertainty.",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="a results folder")
    parser.add_argument("--max-parameters", type=float, metavar="N", help="trainable parameters, at most")
    parser.add_argument("--max-seconds", type=float, metavar="S", help="training seconds, at most")
    parser.add_argument("--max-memory", type=float, metavar="B", help="peak memory of training in bytes, at most")
    add_common_options(parser)
    parser.set_defaults(call=run_advise)


def run_advise(options: argparse.Namespace) -> int:
    """Run `triptych advise`."""
    from triptych import api

    advice = api.advise(
        options.out,
        max_parameters=options.max_parameters,
        max_seconds=options.max_seconds,
        max_memory=options.max_memory,
    )
    print(for_terminal(advice.text))
    return 0


def add_bundle(commands: Commands) -> None:
    """Add the parser of `triptych bundle`."""
    parser = commands.add_parser(
        "bundle",
        help="write one zip to submit",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Write a zip with the source (.py files only), the fine-tuned models, the report, "
        "the results, and a README that says how to run it and how to restore each model.",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="a results folder")
    parser.add_argument("file", metavar="FILE.zip", type=Path, help="the zip to write")
    parser.add_argument(
        "--max-megabytes",
        type=float,
        metavar="N",
        help="megabytes of fine-tuned models, at most; above it "
        "the largest are left out, and the README has a marked place for a link to each",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE.zip if it exists")
    add_common_options(parser)
    parser.set_defaults(call=run_bundle)


def run_bundle(options: argparse.Namespace) -> int:
    """Run `triptych bundle`."""
    from triptych import api

    made = api.bundle(
        options.out,
        options.file,
        max_megabytes=options.max_megabytes,
        overwrite=options.overwrite,
        plugins=options.plugin,
    )
    size, models = options.file.stat().st_size / 1e6, len(made.tuned) - len(made.left_out)
    print(f"{options.file}: {size:.1f} MB; fine-tuned models: {models} of {len(made.tuned)}")
    for model in made.left_out:
        where = f"{model.folder / 'adapter'} ({model.size / 1e6:.1f} MB)"
        print(f"left out: {where}; put a link to it into the README of the zip")
    return 0
