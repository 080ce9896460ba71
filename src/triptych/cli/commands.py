"""The command line: the parser of every command, and how errors and interruptions are reported."""

import argparse
import atexit
import gc
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from triptych import __version__
from triptych.cli import compare, completion, env, init, listing, plan, results, score, train, use
from triptych.cli.options import EXAMPLES
from triptych.cli.unknown import refuse_unknown
from triptych.errors import TriptychError, TriptychWarning, nearest, out_of_memory, shorten
from triptych.suite.processes import ENDING_SIGNALS, Ended, ended_by_signals, is_rank
from triptych.text.characters import for_terminal, visible

DESCRIPTION = """Which way of fine-tuning should I use for my summarization task, and what does each cost?

Triptych fine-tunes a causal language model on documents with summaries in several ways (prompt tuning, LoRA, last
layers only, full fine-tuning), next to the untuned model and Lead-3. It gives every method the same data, budget and
search, measures what each costs, and writes a report."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    if arguments is None:
        atexit.register(gc.freeze)  # do not search all of torch for garbage at exit, which took 2 s
        if sys.flags.optimize >= 2:
            keep_docstrings()
    replace_what_streams_lack()
    words, parser = sys.argv[1:] if arguments is None else list(arguments), make_parser()
    if not words:
        parser.print_help()
        return 0
    if (unknown := unknown_command(parser, words)) is not None:
        print(f"triptych: {visible(unknown)}", file=sys.stderr)
        return 2
    options, left = parser.parse_known_args(words)
    if left:
        refuse_unknown(command_parsers(parser).get(options.command, parser), options.command, left)
    try:
        with plain_warnings(), ended_by_signals() if resumes(options) else nullcontext():
            return options.call(options)
    except KeyboardInterrupt as error:
        return interrupted(options, getattr(error, "signum", signal.SIGINT))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except TriptychError as error:
        if options.debug:
            print(for_terminal(traceback.format_exc()), end="", file=sys.stderr)
        complain(visible(str(error)))
        return error.exit_status
    except OSError as error:
        if (signum := ending_signal(error)) is not None:
            return interrupted(options, signum)
        if options.debug:
            raise
        what = error.strerror or visible(str(error))
        where = f"{str(error.filename)[:300]!r}: " if error.filename is not None else ""
        complain(f"{where}{what}. Check free disk space and permissions, and start again.")
        return 2
    except BaseException as error:
        panicked = type(error).__name__ == "PanicException"  # from native code; it is not an `Exception`
        if options.debug or not (panicked or isinstance(error, Exception)):
            raise
        if out_of_memory(error) is not None:
            complain("out of memory. Use a smaller model or batch, or free memory, and start again.")
            return 1
        what = f"{type(error).__name__}: {visible(str(error))}"
        complain(f"unexpected {what}\nRun again with --debug to see where.")
        return 2 if panicked else 1


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print Triptych's own warnings like errors, on one line; other warnings are unchanged."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, TriptychWarning):
                complain(visible(str(message)))
            else:
                usual(message, category, *where, **more)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def complain(message: str) -> None:
    """Print what is wrong; if standard error is on a full disk, only the exit status tells."""
    with suppress(OSError):
        print(f"triptych: {message}", file=sys.stderr)


def unknown_command(parser: argparse.ArgumentParser, words: Sequence[str]) -> str | None:
    """The message if the first word is not a command; None if it is one, or an option."""
    first, known = words[0], command_parsers(parser)
    if first.startswith("-") or first in known:
        return None
    return f"Unknown command {shorten(repr(first))}.{nearest(first[:100], known)}"


def command_parsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by name."""
    (actions,) = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    return dict(actions.choices)


def resumes(options: argparse.Namespace) -> bool:
    """Whether SIGTERM and SIGHUP end this command like Ctrl-C: `compare`, and `train` if a person started it.

    A suite's run and a rank of torchrun end at once on such a signal: whoever started them cleans up, and would
    otherwise have to wait for a step or a collective operation to return.
    """
    if options.command == "train":
        return not options.events and not is_rank()
    return options.command == "compare"


def ending_signal(error: BaseException) -> int | None:
    """The signal that led to an error, if any: printing fails on a terminal that was closed."""
    context = error.__context__
    while context is not None and not isinstance(context, Ended):
        context = context.__context__
    return None if context is None else context.signum


def interrupted(options: argparse.Namespace, signum: int) -> int:
    """Print that the command was interrupted; returns the exit status that a shell gives for the signal."""
    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGINT, *ENDING_SIGNALS):
            signal.signal(each, signal.SIG_IGN)
    again = " Run the same command again to resume." if options.command in ("compare", "train") else ""
    with suppress(OSError):  # a terminal that was closed
        print(f"\nInterrupted.{again}", file=sys.stderr)
    return 128 + signum


def keep_docstrings() -> None:
    """Restart with docstrings if Python was told to drop them: transformers cannot be imported without them."""
    given = sys.orig_argv[1:]
    words = [
        "-O" if word == "-OO" and all(other.startswith("-") for other in given[:place]) else word
        for place, word in enumerate(given)
    ]
    if words != given or os.environ.get("PYTHONOPTIMIZE") != "1":
        os.execve(sys.executable, [sys.executable, *words], {**os.environ, "PYTHONOPTIMIZE": "1"})


def replace_what_streams_lack() -> None:
    """Print "?" for a character that the encoding of standard output or error lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def make_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = argparse.ArgumentParser(
        prog="triptych",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"triptych {__version__}")
    completion.add_completion(parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    compare.add_compare(commands)
    init.add_init(commands)
    plan.add_plan(commands)
    train.add_train(commands)
    use.add_evaluate(commands)
    use.add_summarize(commands)
    use.add_export(commands)
    results.add_report(commands)
    score.add_score(commands)
    results.add_bundle(commands)
    results.add_advise(commands)
    use.add_play(commands)
    listing.add_list(commands)
    env.add_env(commands)
    return parser
