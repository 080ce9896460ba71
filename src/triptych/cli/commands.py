"""The command line: parse, one call, print. No logic."""

import argparse
import importlib
import io
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from triptych import __version__
from triptych.errors import ConfigError, TriptychError
from triptych.suite.processes import ENDING_SIGNALS, Ended, ended_by_signals
from triptych.text.characters import for_terminal, visible

DESCRIPTION = """Which way of fine-tuning should I use for my summarization task, and what does each cost?

Triptych fine-tunes a causal language model on documents with summaries in several ways (prompt tuning, LoRA, last
layers only, full fine-tuning), next to the untuned model and Lead-3. It gives every method the same data, budget and
search, measures what each costs, and writes a report."""
EXAMPLES = """examples:
  triptych compare                                     the demo: embedded model and data, a few minutes on two cores
  triptych compare --model gpt2 --data abisee/cnn_dailymail
                                                       GPT-2 small on CNN/DailyMail, from the hub
  triptych compare --data ./my-data --model ./my-gpt2 --set limits.train_documents=1000 training.max_epochs=3
                                                       your own documents and model
  triptych compare --data ./my-data --dry-run          what would run, and how long it would take

exit status: 0 done, 1 a run failed, 2 usage or bad input, 130 interrupted;
compare and train end by SIGTERM and SIGHUP alike, with 143 and 129"""


SCORE_EXAMPLES = """examples:
  triptych score results/mine --metric my-metric --plugin my_metric.py
  triptych score mine=out/predictions.jsonl theirs=theirs.csv --out results/scores
  triptych score mine=seed-0.jsonl mine=seed-1.jsonl theirs=samples.jsonl --references test.csv
  triptych score t5=generated_predictions.txt --references references.txt"""


PLAN_EXAMPLES = """examples:
  triptych plan --data ./my-data --within 8h           the best comparison for eight hours, before any run
  triptych plan results/pilot --detect 0.5             what half a point needs, by how a finished pilot's scores vary
  triptych plan results/pilot results/scores --json    variance from both, costs from the pilot, for programs"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    if arguments is None and sys.flags.optimize >= 2:
        keep_docstrings()
    replace_what_streams_lack()
    options = make_parser().parse_args(arguments)
    try:
        with ended_by_signals() if resumes(options) else nullcontext():
            return options.call(options)
    except KeyboardInterrupt as error:
        return interrupted(options, getattr(error, "signum", signal.SIGINT))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except TriptychError as error:
        if options.debug:
            print(for_terminal(traceback.format_exc()), end="", file=sys.stderr)
        print(f"triptych: {visible(str(error))}", file=sys.stderr)
        return error.exit_status
    except (OSError, MemoryError) as error:
        if (signum := ending_signal(error)) is not None:
            return interrupted(options, signum)
        if options.debug:
            raise
        what = "the memory is used up" if isinstance(error, MemoryError) else error.strerror or visible(str(error))
        where = f"{str(error.filename)[:300]!r}: " if isinstance(error, OSError) and error.filename is not None else ""
        print(
            f"triptych: {where}{what}. Make room, or allow reading and writing there, and start again.", file=sys.stderr
        )
        return 1 if isinstance(error, MemoryError) else 2
    except BaseException as error:
        panicked = type(error).__name__ == "PanicException"  # of native code, which is no `Exception`
        if options.debug or not (panicked or isinstance(error, Exception)):
            raise
        what = f"{type(error).__name__}: {visible(str(error))}"
        print(f"triptych: unexpected {what}\nRun again with --debug to see where.", file=sys.stderr)
        return 2 if panicked else 1


def resumes(options: argparse.Namespace) -> bool:
    """Whether SIGTERM and SIGHUP end this command as Ctrl-C does: `compare`, and `train` as a person starts it.

    The run of a suite and a rank of torchrun end at once by such a signal: whoever started them cleans up, and would
    have to wait for a step or a collective operation to return.
    """
    if options.command == "train":
        return not options.events and "RANK" not in os.environ
    return options.command == "compare"


def ending_signal(error: BaseException) -> int | None:
    """The signal that an error came after, if any: nothing can be shown on a terminal that was closed."""
    context = error.__context__
    while context is not None and not isinstance(context, Ended):
        context = context.__context__
    return None if context is None else context.signum


def interrupted(options: argparse.Namespace, signum: int) -> int:
    """Say what was interrupted; returns the exit status that a shell gives a process that the signal ended."""
    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGINT, *ENDING_SIGNALS):
            signal.signal(each, signal.SIG_IGN)
    again = " Run the same command again to resume." if options.command in ("compare", "train") else ""
    with suppress(OSError):  # a terminal that was closed
        print(f"\nInterrupted.{again}", file=sys.stderr)
    return 128 + signum


def keep_docstrings() -> None:
    """Begin again with docstrings where Python was told to drop them: transformers fails on import without its own."""
    given = sys.orig_argv[1:]
    words = [
        "-O" if word == "-OO" and all(other.startswith("-") for other in given[:place]) else word
        for place, word in enumerate(given)
    ]
    if words != given or os.environ.get("PYTHONOPTIMIZE") != "1":
        os.execve(sys.executable, [sys.executable, *words], {**os.environ, "PYTHONOPTIMIZE": "1"})


def replace_what_streams_lack() -> None:
    """A character that the encoding of standard output or error lacks becomes "?", and ends no command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def make_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="triptych", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=shape)
    parser.add_argument("--version", action="version", version=f"triptych {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)

    compare = commands.add_parser(
        "compare",
        help="run a comparison and report it",
        formatter_class=shape,
        epilog=EXAMPLES,
        description="Run every row of a suite, compare, and write tables and reports to OUT. The "
        "same suite in an OUT that exists goes on where it stopped.",
    )
    compare.add_argument(
        "suite", nargs="?", metavar="SUITE.toml", help="a suite file (TOML, or the JSON in OUT/suite.json)"
    )
    add_suite_options(compare)
    compare.add_argument(
        "--dry-run",
        action="store_true",
        help="print the runs, documents, disk and a time estimate from two measured steps; write nothing",
    )
    compare.add_argument(
        "--within",
        metavar="TIME",
        help="choose seeds, test documents, epochs and training pairs as triptych "
        "plan does, the same for every row, for this much time (90s, 30min, 8h, 2d), and run that",
    )
    compare.add_argument("--fresh", action="store_true", help="start over; what OUT holds is kept under another name")
    compare.add_argument(
        "--executor",
        default="local",
        metavar="E",
        help="local: one run after the other on this machine; "
        "ray: a Ray cluster on this machine; ray://HOST:PORT: one that is there (default: local)",
    )
    compare.add_argument(
        "--run-cpus", type=float, default=1, metavar="N", help="cores that a run asks of a Ray worker (1)"
    )
    compare.add_argument("--run-gpus", type=float, default=0, metavar="N", help="GPUs that it asks for (0)")
    compare.add_argument("--run-memory", type=float, default=0, metavar="BYTES", help="memory that it asks for (any)")
    compare.set_defaults(call=call_compare)

    plan = commands.add_parser(
        "plan",
        help="say what a comparison must be to find a difference",
        formatter_class=shape,
        epilog=PLAN_EXAMPLES,
        description="Say how many test documents and seeds find a true difference "
        "four times in five, which of the two is lacking, what that costs, and the best design for a "
        "time. From finished results folders, without a model; or from a suite, of which two optimizer "
        "steps a row are measured and whose scores are assumed to vary as they did elsewhere.",
    )
    plan.add_argument("given", nargs="*", metavar="SUITE.toml | OUT", help="a suite file, or results folders (pilots)")
    plan.add_argument(
        "--detect",
        type=float,
        metavar="D",
        help="the true difference to find, on the primary measure (default: 1 ROUGE point, 0.04 nats)",
    )
    plan.add_argument("--within", metavar="TIME", help="time for all runs: 90s, 30min, 8h, 2d")
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")
    add_suite_options(plan, out=False)
    plan.set_defaults(call=call_plan)

    train = commands.add_parser(
        "train",
        help="run one row of a suite",
        formatter_class=shape,
        description="Run one row of a suite in this process, under each of its seeds.",
    )
    train.add_argument("label", metavar="LABEL", help="the row: a method, a baseline, or a label of the suite's own")
    train.add_argument("suite", nargs="?", metavar="SUITE.toml", help="a suite file")
    add_suite_options(train)
    train.add_argument(
        "--events",
        action="store_true",
        help="print events as JSON lines, for programs; where standard input is a pipe, the run ends when it closes",
    )
    train.add_argument(
        "--trial",
        type=float,
        metavar="RATE",
        help="with --events: make only the search's trial at this "
        "learning rate; the run that makes the search finds it",
    )
    train.add_argument(
        "--lock",
        nargs=2,
        metavar=("DIR", "TOKEN"),
        help="with --events: end as soon as the lock of this "
        "results folder is another one: the folder was moved, or another suite works there",
    )
    train.set_defaults(call=call_train)

    evaluate = commands.add_parser(
        "evaluate",
        help="evaluate a saved run again",
        formatter_class=shape,
        description="Load what a run saved, compute its test loss and summaries again, and say "
        "whether they are those of its record. An adapter of peft's is evaluated on --data.",
    )
    evaluate.add_argument(
        "run",
        metavar="RUN",
        type=Path,
        help="a run's folder (OUT/runs/LABEL/SEED), or a LoRA or prompt adapter that peft saved",
    )
    evaluate.add_argument("--model", metavar="M", help="where the base model is now (default: where the record says)")
    evaluate.add_argument(
        "--data",
        metavar="D",
        help="where the documents are now (default: where the record says); for an "
        "adapter of peft's, what to evaluate it on",
    )
    evaluate.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="for an adapter of peft's: any key of a suite file, such as limits.test_documents=64",
    )
    evaluate.add_argument("--json", action="store_true", help="print the result as JSON")
    add_common_options(evaluate)
    evaluate.set_defaults(call=call_evaluate)

    summarize = commands.add_parser(
        "summarize",
        help="summarize documents with trained runs",
        formatter_class=shape,
        description="Summarize documents with one run or several, which share one base model in "
        "memory. A document longer than limits.document_tokens of the run's suite, or than the "
        "window leaves room for, is cut at its end, and it is said. Summaries come as their "
        "batch is done, the longest documents first.",
    )
    summarize.add_argument(
        "run",
        metavar="RUN",
        nargs="+",
        type=Path,
        help="a run's folder (OUT/runs/LABEL/SEED), or a LoRA or prompt adapter that peft saved",
    )
    summarize.add_argument(
        "--file",
        metavar="F",
        default="-",
        help="a text file (one document), a table with a document a "
        "row (.csv, .tsv, .jsonl, .parquet), or - for standard input (default)",
    )
    summarize.add_argument(
        "--column", metavar="NAME", help="the table's column of documents (default: by its usual name)"
    )
    summarize.add_argument("--json", action="store_true", help="print a JSON object a line for each document and run")
    summarize.add_argument(
        "--model", metavar="M", help="the base model, where it is not to be had under its recorded name"
    )
    add_common_options(summarize)
    summarize.set_defaults(call=call_summarize)

    export = commands.add_parser(
        "export",
        help="write a run as a folder that needs no Triptych",
        formatter_class=shape,
        description="Write what a run trained as a complete transformers folder, merged, with "
        "tokenizer, generation settings, an example and a model card. A prompt cannot be merged: it "
        "is written in PEFT's format beside its base's name. Nothing is uploaded.",
    )
    export.add_argument("run", metavar="RUN", type=Path, help="a run's folder, or an adapter that peft saved")
    export.add_argument("to", metavar="DIR", type=Path, help="a new or an empty folder")
    export.add_argument(
        "--model", metavar="M", help="the base model, where it is not to be had under its recorded name"
    )
    add_common_options(export)
    export.set_defaults(call=call_export)

    report = commands.add_parser(
        "report",
        help="write tables and reports from records",
        formatter_class=shape,
        description="Compare the runs in OUT again and write comparison.json, the tables and the "
        "reports there. Several OUTs are joined into one table, if they may be, in --to.",
    )
    report.add_argument("out", nargs="+", metavar="OUT", type=Path, help="results folders")
    report.add_argument("--to", type=Path, metavar="DIR", help="where to write (default: the first OUT)")
    report.add_argument(
        "--without-texts",
        action="store_true",
        help="leave out every summary, generated or of the reference: for data that may not be passed on",
    )
    add_common_options(report)
    report.set_defaults(call=call_report)

    score = commands.add_parser(
        "score",
        help="score predictions of any tool, tested and reported",
        formatter_class=shape,
        epilog=SCORE_EXAMPLES,
        description="Score predictions that any tool wrote, test the systems "
        "against each other on the same documents, and report. No model is loaded. Files are tables "
        "(.csv, .tsv, .jsonl, .parquet, also .gz) with the columns id, prediction and reference or the "
        "usual other names, samples of lm-evaluation-harness, or plain text, a prediction a line.",
    )
    score.add_argument(
        "systems",
        nargs="+",
        metavar="NAME=FILE",
        help="a system and its predictions; a name given again is "
        "another seed of it; or a results folder, whose stored predictions --metric scores",
    )
    score.add_argument(
        "--references", metavar="FILE", help="a table or text with the references (default: the files' own)"
    )
    score.add_argument(
        "--out", type=Path, metavar="DIR", help="a folder for scores, tables and reports (default: print only)"
    )
    score.add_argument("--no-report", action="store_true", help="tables alone: no report.pdf, no report.html")
    score.add_argument(
        "--metric",
        action="append",
        metavar="M",
        help="a registered metric to score by besides ROUGE and the text's shape; repeatable (default: all)",
    )
    score.add_argument(
        "--columns",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=NAME",
        help="the columns of id, prediction, reference or document, where their names are not the usual ones",
    )
    score.add_argument("--by-order", action="store_true", help="join the files by the order of their rows, not by id")
    score.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="keys of a suite file that say how is scored and judged: [rouge] and [analysis]",
    )
    add_common_options(score)
    score.set_defaults(call=call_score)

    bundle = commands.add_parser(
        "bundle",
        help="write one zip to hand in",
        formatter_class=shape,
        description="Write a zip with the source (.py files only), the fine-tuned models, the report, "
        "the results, and a README that says how to run it and how to restore each model.",
    )
    bundle.add_argument("out", metavar="OUT", type=Path, help="a results folder")
    bundle.add_argument("file", metavar="FILE.zip", type=Path, help="the zip to write")
    bundle.add_argument(
        "--max-megabytes",
        type=float,
        metavar="N",
        help="megabytes of fine-tuned models, at most; above it "
        "the largest stay out, and the README has a marked place for a link to each",
    )
    bundle.add_argument("--overwrite", action="store_true", help="replace FILE.zip if it is there")
    add_common_options(bundle)
    bundle.set_defaults(call=call_bundle)

    advise = commands.add_parser(
        "advise",
        help="name the best row within a budget",
        formatter_class=shape,
        description="Name the best row of a finished comparison within a budget, with the evidence "
        "and its uncertainty.",
    )
    advise.add_argument("out", metavar="OUT", type=Path, help="a results folder")
    advise.add_argument("--max-parameters", type=float, metavar="N", help="trainable parameters, at most")
    advise.add_argument("--max-seconds", type=float, metavar="S", help="training seconds, at most")
    advise.add_argument("--max-memory", type=float, metavar="B", help="peak memory of training in bytes, at most")
    add_common_options(advise)
    advise.set_defaults(call=call_advise)

    play = commands.add_parser(
        "play",
        help="try every row on an article, in a local web page",
        formatter_class=shape,
        description="Serve a page on this machine where an article's summaries by every row of OUT "
        "stand side by side. It loads nothing from a network. Needs the extra `play`.",
    )
    play.add_argument("out", metavar="OUT", type=Path, help="a results folder")
    play.add_argument("--host", default="127.0.0.1", help="where to listen (default: 127.0.0.1, this machine alone)")
    play.add_argument("--port", type=int, default=7860, help="default: 7860")
    play.add_argument("--model", metavar="M", help="the base model, where it is not to be had under its recorded name")
    add_common_options(play)
    play.set_defaults(call=call_play)

    listing = commands.add_parser(
        "list",
        help="show what is registered, or what a data folder holds",
        formatter_class=shape,
        description="Without words: methods with their options, baselines, data sets, metrics, "
        "models and presets. `list data DIR`: what a folder holds and how it would be read.",
    )
    listing.add_argument("what", nargs="*", metavar="data DIR", help="data DIR")
    listing.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="with data DIR: columns.document=NAME, columns.summary=NAME, columns.id=NAME",
    )
    add_common_options(listing)
    listing.set_defaults(call=call_list)
    return parser


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Options that every command has."""
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), help="default: cuda, else mps, else cpu")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE.py", help="a Python file with a plug-in; repeatable"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")


def add_suite_options(parser: argparse.ArgumentParser, out: bool = True) -> None:
    """Options that make a suite."""
    from triptych.config.reading import PRESETS

    parser.add_argument(
        "--preset",
        metavar="NAME",
        help=f"settings to start from: {', '.join(PRESETS)} (default: demo, or "
        "assignment where a suite file, --model or --data is given; --dry-run and list explain them)",
    )
    parser.add_argument("--model", metavar="M", help="a hub name, a transformers folder, or tiny (embedded)")
    parser.add_argument(
        "--data",
        metavar="D",
        help="a folder with train|validation|test.{csv,jsonl,parquet}, a file, a hub name, or newswire (embedded)",
    )
    parser.add_argument("--methods", metavar="a,b", help="the rows, separated by commas")
    parser.add_argument("--seeds", metavar="0,1", help="the seeds, separated by commas")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="any key of a suite file, such as limits.train_documents=64 or method.lora.rank=16",
    )
    if out:
        parser.add_argument("--out", type=Path, metavar="DIR", help="the results folder (default: results/NAME)")
    add_common_options(parser)


def chosen_preset(options: argparse.Namespace) -> str:
    """The preset that the settings begin from."""
    return options.preset or ("assignment" if options.suite or options.model or options.data else "demo")


def suite_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Preset, suite file and flags, laid on each other in this order."""
    from triptych.config import reading

    settings = reading.preset_settings(chosen_preset(options))
    if options.suite:
        settings = reading.merge_tables(settings, reading.read_suite_file(Path(options.suite)))
    return reading.merge_tables(settings, flag_settings(options, seeds=not (options.suite and options.command == "train")))


def flag_settings(options: argparse.Namespace, seeds: bool = True) -> dict[str, Any]:
    """What --model, --data, --seeds and --set say."""
    from triptych.config import reading

    flags: dict[str, Any] = {key: value for key in ("model", "data") if (value := getattr(options, key)) is not None}
    if options.seeds is not None and seeds:
        flags["seeds"] = parse_seeds(options.seeds)
    for setting in options.settings:
        flags = reading.merge_tables(flags, reading.parse_setting(setting))
    return flags


def parse_seeds(text: str) -> list[int]:
    """`0,1,2` as numbers."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--seeds {text[:100]!r}: whole numbers separated by commas are needed, such as 0,1,2."
        ) from None


def split_names(text: str | None) -> list[str] | None:
    """`a,b` as names."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def quiet_libraries() -> None:
    """Our progress is shown, not that of the libraries below."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # the reader of GGUF files asks tqdm itself; transformers' own switch holds for its bar too
    reader: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    reader.tqdm = transformers.logging.tqdm


def call_compare(options: argparse.Namespace) -> int:
    """`triptych compare`."""
    from rich.console import Console

    from triptych.cli.printing import show_design, show_plan, show_sentences_on_data
    from triptych.cli.progress import ProgressView
    from triptych.planning import planner
    from triptych.plugins import import_plugins
    from triptych.reporting.tables import comparison_table
    from triptych.run import entries, preflight, setup
    from triptych.suite import executors, jobs

    import_plugins(options.plugin)
    quiet_libraries()
    settings, methods = suite_settings(options), split_names(options.methods)
    if options.within is not None:
        told = partial(show_design, Console(stderr=not options.dry_run))
        settings = planner.settings_within(
            options.within, settings, methods, options.out, options.device, options.fresh, told
        )
    resolved, table = entries.resolve(settings, methods)
    out = options.out or Path("results") / resolved.name
    asked = executors.Resources(options.run_cpus, options.run_gpus, options.run_memory)
    executor = executors.make(options.executor, asked)
    jobs.check_folder(out, resolved, options.fresh)
    if options.dry_run:
        with preflight.temporary_cache() as cache:
            plan = preflight.check(resolved, table, options.device, cache)
            for each in (plan, *plan.scaled.values()):
                show_plan(Console(), each, preflight.estimate(each, options.device), out, chosen_preset(options))
        return 0
    plan = preflight.check(resolved, table, options.device, setup.cache_folder())
    show_sentences_on_data(Console(stderr=True), plan.corpus.data)
    with jobs.claim(out, resolved, options.fresh) as lock:
        with ProgressView(Console(stderr=True)) as view:
            view.print(plan.language.reason)
            failed = jobs.carry_out(plan, out, lock, options.device, options.plugin, view, executor)
        comparison = jobs.conclude(out)
    Console().print(comparison_table(comparison))
    print(f"\n{out}: comparison.json, comparison.csv, comparison.md, report.pdf, report.html, runs/")
    if failed:
        print(f"triptych: failed: {', '.join(failed)}. The same command runs only these again.", file=sys.stderr)
    return 1 if failed else 0


def call_plan(options: argparse.Namespace) -> int:
    """`triptych plan`."""
    from rich.console import Console

    from triptych.cli.printing import show_design
    from triptych.planning import planner

    outs = [path for path in options.given if Path(path).is_dir()]
    if len(options.given) > 1 and (other := next((path for path in options.given if path not in outs), None)):
        raise ConfigError(f"{other!r} is not a folder: plan takes one suite file, or results folders.")
    if not outs:
        from triptych.plugins import import_plugins

        import_plugins(options.plugin)
        quiet_libraries()
    suite_file = options.given[0] if options.given and not outs else None
    made = planner.plan(
        suite_file,
        pilots=outs,
        detect=options.detect,
        within=options.within,
        preset=options.preset,
        settings=flag_settings(options),
        methods=split_names(options.methods),
        device=options.device,
        plugins=options.plugin,
    )
    if options.json:
        print(made.model_dump_json(indent=2))
    else:
        show_design(Console(), made)
    return 0


def call_train(options: argparse.Namespace) -> int:
    """`triptych train`."""
    from rich.console import Console

    from triptych.cli.printing import show_sentences_on_data
    from triptych.cli.progress import ProgressView
    from triptych.machine import is_main_process, is_rank
    from triptych.plugins import import_plugins
    from triptych.results.lock import Lock
    from triptych.run import entries, experiment, preflight, setup
    from triptych.run.events import BeginEvent, DoneEvent, ErrorEvent, Event, RunId, format_event, ignore
    from triptych.suite import jobs, processes

    if options.trial is not None and not options.events:
        raise ConfigError("--trial is for programs, and needs --events.")
    if is_rank():
        processes.end_with_launcher()
    events = take_stdout() if options.events else None
    try:
        held = Lock(Path(options.lock[0]), options.lock[1]) if options.lock else None
        if held is not None:
            held.check()  # before OUT/suite.json is read, and again with every event
        import_plugins(options.plugin)
        quiet_libraries()
        settings = suite_settings(options)
        resolved, table = entries.resolve(settings, split_names(options.methods) or with_label(settings, options.label))
        row = entries.find_row(table, options.label)
        seeds = entries.choose_seeds(
            resolved, row, parse_seeds(options.seeds) if options.suite and options.seeds else None
        )
        out = options.out or Path("results") / resolved.name
        if events is not None:
            processes.end_with_parent()

            def write(run: RunId, event: Event) -> None:
                if held is not None:
                    held.check()
                print(format_event(event), file=events, flush=True)

            if options.trial is not None:
                experiment.try_rate(resolved, row, options.trial, out, options.device, write)
                return 0
            for seed in seeds:
                experiment.run(resolved, row, seed, out, options.device, write, options.plugin)
            return 0
        if not is_main_process():
            for seed in seeds:
                experiment.run(resolved, row, seed, out, options.device, ignore)
            return 0
        plan = preflight.check(resolved, table, options.device, setup.cache_folder(), only=row)
        show_sentences_on_data(Console(stderr=True), plan.corpus.data)
        with jobs.claim(out, resolved) as lock, ProgressView(Console(stderr=True)) as view:
            view.print(plan.language.reason)
            for index, seed in enumerate(seeds):
                run = RunId(row.label, seed)
                view(run, BeginEvent(index=index, total=len(seeds)))
                record = experiment.run(resolved, row, seed, out, options.device, lock.guard(view), options.plugin)
                view(run, DoneEvent())
                scores = f"test loss {record.loss.test}, R-1 {record.rouge.rouge1 if record.rouge else None}"
                print(f"{out}/runs/{row.label}/{seed}: {scores}")
        return 0
    except Exception as error:
        if events is not None:
            message = str(error) if isinstance(error, TriptychError) else f"{type(error).__name__}: {error}"
            print(format_event(ErrorEvent(message=message)), file=events, flush=True)
            traceback.print_exc()
        raise


def with_label(settings: dict[str, Any], label: str) -> list[str] | None:
    """A suite that does not name the row gets it as its only row."""
    from triptych.config.schema import Suite

    known = [*settings.get("methods", Suite().methods), *settings.get("method", {})]
    return None if label in known else [label]


def take_stdout():
    """Standard output for events alone: whatever else prints goes to standard error."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def call_evaluate(options: argparse.Namespace) -> int:
    """`triptych evaluate`."""
    from triptych.config import reading
    from triptych.plugins import import_plugins
    from triptych.use import evaluate

    import_plugins(options.plugin)
    quiet_libraries()
    settings: dict[str, Any] = {key: value for key in ("model", "data") if (value := vars(options)[key])}
    for setting in options.settings:
        settings = reading.merge_tables(settings, reading.parse_setting(setting))
    result = evaluate.evaluate(options.run, options.device, settings)
    facts = {**vars(result), "reproduced": result.reproduced}
    print(json.dumps(facts) if options.json else for_terminal(result.text()))
    return 0 if result.reproduced else 1


def call_summarize(options: argparse.Namespace) -> int:
    """`triptych summarize`."""
    from triptych.cli.printing import SummaryPrinter
    from triptych.plugins import import_plugins
    from triptych.use import documents, summarizers

    import_plugins(options.plugin)
    quiet_libraries()
    texts = documents.read_documents(options.file, options.column)
    loaded = summarizers.load_all(options.run, options.model, options.device)
    printer = SummaryPrinter(
        headings=len(loaded) > 1 or documents.is_document_table(options.file), as_json=options.json
    )
    for row, name, summary in summarizers.summarize_all(loaded, texts):
        printer(row, name, summary)
    printer.close()
    return 0


def call_export(options: argparse.Namespace) -> int:
    """`triptych export`."""
    from triptych.plugins import import_plugins
    from triptych.use.export import export

    import_plugins(options.plugin)
    quiet_libraries()
    print(export(options.run, options.to, options.model))
    print(f"The model card is {options.to / 'README.md'}. To publish the folder: hf upload USER/NAME {options.to}")
    return 0


def call_report(options: argparse.Namespace) -> int:
    """`triptych report`."""
    from rich.console import Console

    from triptych.reporting.tables import comparison_table
    from triptych.suite import jobs

    comparison, to = jobs.conclude_joined(options.out, options.to, texts=not options.without_texts)
    Console().print(comparison_table(comparison))
    print(f"\n{to}: comparison.json, comparison.csv, comparison.md, report.pdf, report.html")
    return 0


def call_score(options: argparse.Namespace) -> int:
    """`triptych score`."""
    from rich.console import Console

    from triptych.cli.progress import scoring_bar
    from triptych.config import reading
    from triptych.plugins import import_plugins
    from triptych.reporting.tables import comparison_table
    from triptych.scored import files

    import_plugins(options.plugin, ("metrics",))
    if "=" not in options.systems[0] and Path(options.systems[0]).is_dir():
        return score_again(options)
    settings: dict[str, Any] = {}
    for setting in options.settings:
        settings = reading.merge_tables(settings, reading.parse_setting(setting))
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
    from triptych.config import reading, schema
    from triptych.reporting.tables import comparison_table
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
    settings: dict[str, Any] = {}
    for setting in options.settings:
        settings = reading.merge_tables(settings, reading.parse_setting(setting))
    if settings.keys() - {"rouge"}:
        raise ConfigError("Of a results folder, --set says how predictions are scored: rouge.language=NAME.")
    language = schema.make_suite(settings).rouge.language if settings else None
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


def call_bundle(options: argparse.Namespace) -> int:
    """`triptych bundle`."""
    from triptych.handin.bundle import write_bundle
    from triptych.plugins import import_plugins

    import_plugins(options.plugin)
    made = write_bundle(
        options.out, options.file, list(map(Path, options.plugin)), options.max_megabytes, options.overwrite
    )
    models = len(made.tuned) - len(made.left_out)
    print(
        f"{options.file}: {options.file.stat().st_size / 1e6:.1f} MB; fine-tuned models: {models} of {len(made.tuned)}"
    )
    for model in made.left_out:
        print(
            f"left out: {model.folder / 'adapter'} ({model.size / 1e6:.1f} MB); put a link to it into the README of "
            "the zip"
        )
    return 0


def call_advise(options: argparse.Namespace) -> int:
    """`triptych advise`."""
    from triptych.analysis.advice import advise
    from triptych.analysis.comparison import compare
    from triptych.results.reading import load

    comparison = compare(load(options.out))
    print(for_terminal(advise(comparison, options.max_parameters, options.max_seconds, options.max_memory).text))
    return 0


def call_play(options: argparse.Namespace) -> int:
    """`triptych play`."""
    from triptych.plugins import import_plugins
    from triptych.use.page import build_page, import_gradio
    from triptych.use.page_server import launch
    from triptych.use.playground import Playground

    import_gradio()
    import_plugins(options.plugin)
    quiet_libraries()
    launch(build_page(Playground.open(options.out, options.model, options.device)), options.host, options.port)
    return 0


def call_list(options: argparse.Namespace) -> int:
    """`triptych list`."""
    from rich.console import Console

    from triptych.cli.printing import show_data, show_registered
    from triptych.config import reading, schema
    from triptych.plugins import import_plugins

    if not options.what:
        if options.settings:
            raise ConfigError("--set belongs to `triptych list data DIR`, which says how a folder would be read.")
        import_plugins(options.plugin)
        show_registered(Console())
    elif options.what[0] == "data" and len(options.what) == 2:
        settings: dict[str, Any] = {}
        for setting in options.settings:
            settings = reading.merge_tables(settings, reading.parse_setting(setting))
        made = schema.make_suite(settings)
        show_data(Console(), Path(options.what[1]), made.columns, made.rouge.language)
    else:
        raise ConfigError(f"triptych list {' '.join(options.what)}: use `triptych list` or `triptych list data DIR`.")
    return 0
