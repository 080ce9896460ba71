"""`triptych evaluate`, `summarize`, `export` and `play`: use trained runs."""

import argparse
import json
import sys
from contextlib import suppress
from pathlib import Path

from triptych.cli.options import Commands, add_common_options, add_set_option, as_path, at_least_zero
from triptych.errors import ConfigError, InputError
from triptych.models.quiet import quiet_libraries
from triptych.storage.files import expand_path
from triptych.text import formats
from triptych.text.characters import for_terminal
from triptych.use.find_run import BEST, find_run, is_run_folder

OTHER_MODEL = "the base model, if it is not available under its recorded name"
RUN = (
    "a run's folder (OUT/runs/LABEL/SEED), or a LoRA or prompt adapter that peft saved; OUT/runs/LABEL or OUT if "
    "only one run can be meant; or OUT@best"
)


def add_evaluate(commands: Commands) -> None:
    """Add the parser of `triptych evaluate`."""
    parser = commands.add_parser(
        "evaluate",
        help="evaluate a saved run again",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Load a saved run, recompute its test loss and summaries, and compare "
        "them with its record. An adapter that peft saved is evaluated on --data.",
    )
    parser.add_argument("run", metavar="RUN", help=RUN)
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
        named_run(options.run),
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
        description="Summarize documents with one or more runs, which share one base model in "
        "memory. A document that is longer than the limits.document_tokens of the run's suite, or than the "
        "context window has room for, is cut at its end, and this is reported. Summaries are printed as each "
        "batch is done, longest documents first.",
    )
    parser.add_argument("run", metavar="RUN", nargs="*", help=f"{RUN}; each of several gives a summary")
    parser.add_argument(
        "--file",
        metavar="F",
        nargs="+",
        action="extend",
        help="texts (one document each), tables with one document per row (.csv, .tsv, .jsonl, .parquet), folders of "
        "these, patterns such as 'notes/*.txt', or - for standard input (default)",
    )
    parser.add_argument("--text", metavar="TEXT", help="the text of one document, instead of --file")
    parser.add_argument(
        "--out",
        type=as_path,
        metavar="FILE",
        help="write a .csv or .jsonl with a row for each document: its id, its table's columns and the summary",
    )
    parser.add_argument("--overwrite", action="store_true", help="with --out: replace a file that exists")
    parser.add_argument(
        "--column",
        metavar="NAME",
        help="the tables' column with the documents (default: that of the runs, else one with a usual name)",
    )
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each document and run")
    parser.add_argument("--model", metavar="M", help=OTHER_MODEL)
    add_common_options(parser)
    parser.set_defaults(call=run_summarize)


def run_summarize(options: argparse.Namespace) -> int:
    """Run `triptych summarize`."""
    from rich.console import Console

    from triptych import api
    from triptych.cli.printing import SummaryPrinter
    from triptych.cli.progress import counting_bar
    from triptych.use.documents import STANDARD_INPUT, is_document_table

    files = list(options.file or [])
    runs = options.run or taken_from(files)
    if not runs:
        raise ConfigError("RUN is missing: triptych summarize RUN --file FILE.")
    if options.text is not None and (files or options.out or options.column):
        raise ConfigError("--text is a document by itself: give it without --file, --out and --column.")
    if options.overwrite and options.out is None:
        raise ConfigError("--overwrite replaces the file of --out: give --out FILE, or leave it out.")
    if options.json and options.out is not None:
        raise ConfigError("--json prints lines of JSON, and --out writes a file instead: --out FILE.jsonl has them.")
    files = files or [STANDARD_INPUT]
    quiet_libraries()
    common = {"column": options.column, "model": options.model, "device": options.device, "plugins": options.plugin}
    common["note"] = lambda sentence: print(for_terminal(sentence), file=sys.stderr)
    for name in runs:
        with suppress(InputError):  # a missing run is reported after missing documents
            named_run(name)
    first = files[0]
    several = is_document_table(first) or (first != STANDARD_INPUT and not expand_path(first).is_file())
    printer = SummaryPrinter(headings=len(runs) > 1 or len(files) > 1 or several, as_json=options.json)
    if options.out is not None:
        with counting_bar(Console(stderr=True), "summarizing") as progress:
            number = api.summarize_to_file(
                runs, files, options.out, overwrite=options.overwrite, progress=progress, each=printer.count, **common
            )
        print(f"{options.out}: {formats.number_of(number, 'document')}")
    else:
        for run, name, summary in api.summarize(
            runs, () if options.text is not None else files, text=options.text, **common
        ):
            printer(run, name, summary)
    printer.close()
    return 0


def taken_from(files: list[str]) -> list[str]:
    """Remove and return the runs at the end of the `--file` arguments, if they were given after it."""
    runs: list[str] = []
    while len(files) > 1 and (files[-1].endswith(BEST) or is_run_folder(Path(files[-1]))):
        runs.insert(0, files.pop())
    return runs


def named_run(name: str) -> Path:
    """The folder of the run that a name means; if the name is not that folder, standard error says which one it is."""
    found = find_run(name)
    if found.message:
        print(for_terminal(found.message), file=sys.stderr)
    return found.folder


def add_export(commands: Commands) -> None:
    """Add the parser of `triptych export`."""
    parser = commands.add_parser(
        "export",
        help="export a run to a folder that works without Triptych",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Write what a run trained as a complete, merged transformers folder, with tokenizer, generation "
        "settings, examples, a server and a model card. A prompt cannot be merged: it is written in PEFT's format, "
        "with its base model or that model's name on the Hub. Nothing is uploaded without --push.",
    )
    parser.add_argument("run", metavar="RUN", help=RUN)
    parser.add_argument("to", metavar="DIR", type=as_path, help="a new or empty folder")
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
    parser.add_argument("--public", action="store_true", help="with --push: as a public model")
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
        message = api.export(
            named_run(options.run),
            options.to,
            model=options.model,
            plugins=options.plugin,
            documents=options.documents,
            push_to=options.push,
            public=options.public,
            progress=progress,
            device=options.device,
        )
    print(for_terminal(message))
    print(for_terminal(f"The model card is {options.to / 'README.md'}."), end=" ")
    print("" if options.push else for_terminal(f"To publish the folder: hf upload USER/NAME {options.to}"))
    return 0


def add_play(commands: Commands) -> None:
    """Add the parser of `triptych play`."""
    parser = commands.add_parser(
        "play",
        help="try every method on an article, in a local web page",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Serve a page on this machine that shows an article's summaries by every method of OUT "
        "side by side. It loads nothing from a network. Needs the extra `play`.",
    )
    parser.add_argument("out", metavar="OUT", type=as_path, help="a results folder")
    parser.add_argument(
        "--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1, this machine only)"
    )
    parser.add_argument("--port", type=int, default=7860, help="the port to listen on (default: 7860)")
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
