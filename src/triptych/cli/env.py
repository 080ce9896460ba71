"""`triptych env`: versions and hardware, for a bug report."""

import argparse
import json

from triptych.cli.options import Commands


def add_env(commands: Commands) -> None:
    """Add the parser of `triptych env`."""
    parser = commands.add_parser(
        "env",
        help="print versions and hardware, for a bug report",
        description="Print the versions of Triptych, Python and the libraries that it uses, the commit, hardware and "
        "settings of this machine. Your paths, name and tokens are not among them.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(call=run_env)


def run_env(options: argparse.Namespace) -> int:
    """Run `triptych env`."""
    from triptych import api

    found = api.env()
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            print(f"{name}: {_variables(value) if isinstance(value, dict) else value}")
    return 0


def _variables(found: dict[str, bool | str]) -> str:
    """Environment variables in words; for those that may hold paths, only that they are set."""
    words = [
        f"{name} is set" if value is True else f"{name}={value}" for name, value in found.items() if value is not False
    ]
    return ", ".join(words) or "nothing that matters is set"
