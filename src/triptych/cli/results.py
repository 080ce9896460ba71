"""`triptych report`, `advise` and `bundle`: use a results folder."""

import argparse
import sys
from dataclasses import asdict

from triptych.cli.options import Commands, add_common_options, add_set_option, as_path
from triptych.config import reading
from triptych.errors import ConfigError, ResultsError
from triptych.models.quiet import quiet_libraries
from triptych.text.characters import for_terminal, to_json


def add_report(commands: Commands) -> None:
    """Add the parser of `triptych report`."""
    parser = commands.add_parser(
        "report",
        help="write tables and reports from records",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Compare the runs in OUT again and write comparison.json, the tables and the "
        "reports there. Several OUTs are joined into one table in --to, if their runs may be compared.",
    )
    parser.add_argument("out", nargs="+", metavar="OUT", type=as_path, help="results folders")
    parser.add_argument("--to", type=as_path, metavar="DIR", help="where to write (default: OUT, if there is only one)")
    parser.add_argument(
        "--without-texts",
        action="store_true",
        help="leave out every generated or reference summary, for data that may not be passed on; with --to "
        "and one OUT of runs, DIR becomes a results folder itself, with suite, records, histories and scores",
    )
    add_set_option(
        parser,
        "what the author adds, kept in OUT/suite.json: report.title, report.author, report.course, report.date, "
        "report.reason (why less of the data was used); OUT/discussion.md, in Markdown, is included in the report, and "
        "OUT/theory.md replaces the answers on theory",
    )
    add_common_options(parser, model=False)
    parser.set_defaults(call=run_report)


def run_report(options: argparse.Namespace) -> int:
    """Run `triptych report`."""
    from rich.console import Console

    from triptych import api
    from triptych.reporting.terminal import print_comparison
    from triptych.reporting.write import REPORT_FILES, TABLE_FILES
    from triptych.results.without_texts import COPIED

    settings = reading.parse_settings(options.settings)
    comparison = api.report(
        options.out, to=options.to, texts=not options.without_texts, settings=settings, plugins=options.plugin
    )
    print_comparison(Console(), comparison)
    folder = options.to or options.out[0]
    copied = [name for name in COPIED if (folder / name).exists()] if options.without_texts and options.to else []
    print(f"\n{folder}: {', '.join((*TABLE_FILES, *REPORT_FILES, *copied))}")
    return 0


def add_advise(commands: Commands) -> None:
    """Add the parser of `triptych advise`."""
    parser = commands.add_parser(
        "advise",
        help="name the cheapest method within a budget that is as good as the best one",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Name the cheapest method (shortest training, then fewest trained parameters) within a budget "
        "that is shown to be at most analysis.margin worse than the best one there, with the evidence.",
    )
    parser.add_argument("out", metavar="OUT", type=as_path, help="a results folder")
    parser.add_argument("--max-parameters", metavar="N", help="maximum trainable parameters: 250k, 1M, 1e6")
    parser.add_argument("--max-seconds", metavar="S", help="maximum training time: 90s, 30min, 8h, or seconds")
    parser.add_argument("--max-memory", metavar="B", help="maximum peak memory of training: 500MB, 8GB, or bytes")
    parser.add_argument("--json", action="store_true", help="print the advice as JSON")
    parser.add_argument("--export", type=as_path, metavar="DIR", help="export the advised method's run to a new folder")
    parser.add_argument("--model", metavar="M", help="with --export: the base model, if it has moved")
    add_common_options(parser, model=False)
    parser.set_defaults(call=run_advise)


def run_advise(options: argparse.Namespace) -> int:
    """Run `triptych advise`."""
    from triptych import api

    if options.model is not None and options.export is None:
        raise ConfigError("--model is the base model for --export: give --export DIR, or leave it out.")
    if options.plugin and options.export is None:
        raise ConfigError("--plugin is for --export: give --export DIR, or leave it out.")
    advice = api.advise(
        options.out,
        max_parameters=options.max_parameters,
        max_seconds=options.max_seconds,
        max_memory=options.max_memory,
    )
    print(to_json(asdict(advice)) if options.json else for_terminal(advice.text), flush=True)
    if options.export is None:
        return 0
    if not advice.runs:
        raise ResultsError("Nothing is exported: no method was advised, or the folder has no run of it.")
    quiet_libraries()
    made = api.export(advice.runs[0], options.export, model=options.model, plugins=options.plugin)
    print(made, file=sys.stderr if options.json else sys.stdout)
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
    parser.add_argument("out", metavar="OUT", type=as_path, help="a results folder")
    parser.add_argument("file", metavar="FILE.zip", type=as_path, help="the zip to write")
    parser.add_argument(
        "--max-megabytes",
        type=float,
        metavar="N",
        help="maximum megabytes of fine-tuned models; above that, "
        "the largest are left out, and the README has a marked place for a link to each",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE.zip if it exists")
    add_common_options(parser, model=False)
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
