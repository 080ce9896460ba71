"""Options that commands share, and how they become settings."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.config import reading

if TYPE_CHECKING:
    from triptych.suite.lines import Detail

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = object

EXAMPLES = """examples:
  triptych compare                                     the demo: embedded model and data, one to four minutes
  triptych compare --model gpt2 --data abisee/cnn_dailymail
                                                       GPT-2 small on CNN/DailyMail, from the hub
  triptych compare --data ./my-data --model ./my-gpt2 --set limits.train_documents=1000 training.max_epochs=3
                                                       your own documents and model
  triptych compare --data ./my-data --dry-run          what would run, and how long it would take

environment: TRIPTYCH_CACHE is the folder for prepared data (~/.cache/triptych), which a container may have to set;
HF_HOME is the folder for files from the hub (~/.cache/huggingface)

exit status: 0 done, 1 a run failed, 2 usage or bad input, 130 interrupted;
SIGTERM and SIGHUP interrupt compare and train as Ctrl-C does, with 143 and 129"""


def as_path(text: str) -> Path:
    """Parse a path on the command line; an empty text is an error.

    Raises:
        ArgumentTypeError: the path is empty.
    """
    if not text:
        raise argparse.ArgumentTypeError("a path is empty. Give one; the current folder is written '.'")
    return Path(text)


def add_common_options(parser: argparse.ArgumentParser, model: bool = True) -> None:
    """Add the options that every command has.

    Args:
        parser: the command's parser.
        model: whether the command runs a model, for which a device can be chosen.
    """
    if model:
        parser.add_argument("--device", choices=("cpu", "cuda", "mps"), help="default: cuda, else mps, else cpu")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE.py", help="a Python file with a plug-in; repeatable"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")


def add_set_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Add `--set KEY=VALUE ...`, whose values are collected in `options.settings`; `what` is its help."""
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="settings", help=what
    )


def add_suite_options(parser: argparse.ArgumentParser, out: bool = True) -> None:
    """Add the options that define a suite."""
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help=f"settings to start from: {', '.join(reading.presets())} (default: demo, or "
        "assignment with a suite file, --model or --data; --dry-run and list explain them)",
    )
    parser.add_argument("--model", metavar="M", help="a hub name, a transformers folder, or tiny (embedded)")
    parser.add_argument(
        "--data",
        metavar="D",
        help="a folder with train|validation|test.{csv,jsonl,parquet}, a file, a hub name, or newswire (embedded)",
    )
    parser.add_argument("--methods", metavar="a,b", help="labels of methods and baselines, separated by commas")
    parser.add_argument("--seeds", metavar="0,1", help="the seeds, separated by commas")
    add_set_option(parser, "any key of a suite file, such as limits.train_documents=64 or method.lora.rank=16")
    if out:
        parser.add_argument("--out", type=as_path, metavar="DIR", help="the results folder (default: results/NAME)")
    add_common_options(parser)


def add_detail_options(parser: argparse.ArgumentParser) -> None:
    """Add `--quiet` and `--verbose`, which `wanted_detail` reads."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("-q", "--quiet", action="store_true", help="while it runs, print only failures")
    which.add_argument("-v", "--verbose", action="store_true", help="while it runs, print a line for every step")


def wanted_detail(options: argparse.Namespace) -> "Detail | None":
    """The lines to print while runs are in progress; None: those that suit the terminal or file."""
    from triptych.suite.lines import Detail

    return Detail.FAILURE if options.quiet else Detail.STEP if options.verbose else None


def flag_settings(options: argparse.Namespace, seeds: bool = True) -> dict[str, Any]:
    """The settings from `--model`, `--data`, `--seeds` and `--set`, as keys of a suite file.

    Args:
        options: the command's options.
        seeds: False: leave out `--seeds`.
    """
    flags: dict[str, Any] = {key: value for key in ("model", "data") if (value := vars(options)[key]) is not None}
    if options.seeds is not None and seeds:
        flags["seeds"] = reading.parse_seeds(options.seeds, "--seeds")
    return reading.merge_tables(flags, reading.parse_settings(options.settings))


def at_least_zero(text: str) -> int:
    """Parse a whole number of 0 or more; an argparse `type`."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text[:100]!r} is not a whole number of 0 or more")
    return number
