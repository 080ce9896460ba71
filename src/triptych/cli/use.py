"""`triptych evaluate`, `summarize`, `export` and `play`: trained runs in use."""

import argparse
import json
from pathlib import Path

from triptych.cli.options import Commands, add_common_options, add_set_option, at_least_zero
from triptych.errors import ConfigError
from triptych.models.quiet import quiet_libraries
from triptych.text.characters import for_terminal

OTHER_MODEL = "the base model, where it is not available under its recorded name"


def add_evaluate(commands: Commands) -> None:
    """Add the parser of `triptych evaluate`."""
    parser = commands.add_parser(
        "evaluate",
        help="evaluate a saved run again",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Load what a run saved, compute its test loss and summaries again, and compare "
        "them with its record. An adapter that peft saved is evaluated on --data.",
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        type=Path,
        help="a run's folder (OUT/runs/LABEL/SEED), or a LoRA or prompt adapter that peft saved",
    )
    parser.add_argument("--model", metavar="M", help="where the base model is now (default: where the record says)")
    parser.add_argument(
        "--data",
        metavar="D",
        help="where the documents are now (default: where the record says); for an "
        "adapter that peft saved, what to evaluate it on",
    )
    add_set_option(parser, "for an adapter that peft saved: any key of a suite file, such as limits.test_documents=64")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    add_common_options(parser)
    parser.set_defaults(call=run_evaluate)


def run_evaluate(options: argparse.Namespace) -> int:
    """Run `triptych evaluate`."""
    from triptych import api
    from triptych.config.reading import parse_settings

    quiet_libraries()
    settings = parse_settings(options.settings)
    result = api.evaluate(
        options.run,
        model=options.model,
        data=options.data,
        settings=settings,
        device=options.device,
        plugins=options.plugin,
    )
    facts = {**vars(result), "reproduced": result.reproduced}
    print(json.dumps(facts) if options.json else for_terminal(result.text()))
    return 0 if result.reproduced else 1


def add_summarize(commands: Commands) -> None:
    """Add the parser of `triptych summarize`."""
    parser = commands.add_parser(
        "summarize",
        help="summarize documents with trained runs",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Summarize documents with one run or several, which share one base model in "
        "memory. A document longer than limits.document_tokens of the run's suite, or than the "
        "window leaves room for, is cut at its end, and this is reported. Summaries are printed as their "
        "batch is done, the longest documents first.",
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        nargs="+",
        type=Path,
        help="a run's folder (OUT/runs/LABEL/SEED), or a LoRA or prompt adapter that peft saved",
    )
    parser.add_argument(
        "--file",
        metavar="F",
        default="-",
        help="a text file (one document), a table with one document "
        "per row (.csv, .tsv, .jsonl, .parquet), or - for standard input (default)",
    )
    parser.add_argument("--column", metavar="NAME", help="the table's column of documents (default: by its usual name)")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each document and run")
    parser.add_argument("--model", metavar="M", help=OTHER_MODEL)
    add_common_options(parser)
    parser.set_defaults(call=run_summarize)


def run_summarize(options: argparse.Namespace) -> int:
    """Run `triptych summarize`."""
    from triptych import api
    from triptych.cli.printing import SummaryPrinter
    from triptych.use.documents import is_document_table

    quiet_libraries()
    summaries = api.summarize(
        options.run,
        options.file,
        column=options.column,
        model=options.model,
        device=options.device,
        plugins=options.plugin,
    )
    printer = SummaryPrinter(headings=len(options.run) > 1 or is_document_table(options.file), as_json=options.json)
    for run, name, summary in summaries:
        printer(run, name, summary)
    printer.close()
    return 0


def add_export(commands: Commands) -> None:
    """Add the parser of `triptych export`."""
    parser = commands.add_parser(
        "export",
        help="write a run as a folder that needs no Triptych",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Write what a run trained as a complete transformers folder, merged, with tokenizer, settings for "
        "generation, examples, a server and a model card. A prompt cannot be merged: it is written in PEFT's format, "
        "with its base model or that model's name on the Hub. Nothing is uploaded without --push.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="a run's folder, or an adapter that peft saved")
    parser.add_argument("to", metavar="DIR", type=Path, help="a new or an empty folder")
    parser.add_argument("--model", metavar="M", help=OTHER_MODEL)
    parser.add_argument(
        "--documents",
        metavar="N",
        type=at_least_zero,
        default=16,
        help="test documents that a merged model summarizes as servers do, greedily and by sampling, for the card's "
        "comparison with the run's own decoding (default: 16; 0: none)",
    )
    parser.add_argument(
        "--push", metavar="USER/NAME", help="upload the folder to the Hub, as a private model, with your own token"
    )
    parser.add_argument("--public", action="store_true", help="with --push: as a model that anyone may see")
    add_common_options(parser)
    parser.set_defaults(call=run_export)


def run_export(options: argparse.Namespace) -> int:
    """Run `triptych export`."""
    from rich.console import Console

    from triptych import api
    from triptych.cli.progress import counting_bar

    quiet_libraries()
    if options.public and options.push is None:
        raise ConfigError("--public says who may see what --push uploads: give --push USER/NAME, or leave it out.")
    with counting_bar(Console(stderr=True), "measuring") as progress:
        said = api.export(
            options.run,
            options.to,
            model=options.model,
            plugins=options.plugin,
            documents=options.documents,
            push_to=options.push,
            public=options.public,
            progress=progress,
        )
    print(for_terminal(said))
    print(for_terminal(f"The model card is {options.to / 'README.md'}."), end=" ")
    print("" if options.push else for_terminal(f"To publish the folder: hf upload USER/NAME {options.to}"))
    return 0


def add_play(commands: Commands) -> None:
    """Add the parser of `triptych play`."""
    parser = commands.add_parser(
        "play",
        help="try every row on an article, in a local web page",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Serve a page on this machine where an article's summaries by every row of OUT "
        "are shown side by side. It loads nothing from a network. Needs the extra `play`.",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="a results folder")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: 127.0.0.1, this machine alone)")
    parser.add_argument("--port", type=int, default=7860, help="default: 7860")
    parser.add_argument("--model", metavar="M", help=OTHER_MODEL)
    add_common_options(parser)
    parser.set_defaults(call=run_play)


def run_play(options: argparse.Namespace) -> int:
    """Run `triptych play`."""
    from triptych import api

    quiet_libraries()
    api.play(
        options.out,
        host=options.host,
        port=options.port,
        model=options.model,
        device=options.device,
        plugins=options.plugin,
    )
    return 0
