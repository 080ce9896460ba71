"""The command line: parse, call the API, print."""

from triptych.cli.commands import main

__all__ = ["main"]
