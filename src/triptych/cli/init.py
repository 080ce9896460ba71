"""`triptych init`: write a suite file with every key explained."""

import argparse
import shlex
from pathlib import Path

from triptych.cli.options import Commands, add_suite_options, as_path, flag_settings
from triptych.config import reading
from triptych.results.resuming import options_for


def add_init(commands: Commands) -> None:
    """Add the parser of `triptych init`."""
    parser = commands.add_parser(
        "init",
        help="write a commented suite file to start from",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Write a suite file with every key, its default and its meaning. The model and data are inspected: "
        "recognized columns,\nand limits that fit the model's context window and this machine, are written out.",
    )
    parser.add_argument(
        "file", nargs="?", type=as_path, default=Path("suite.toml"), help="the file to write (default: suite.toml)"
    )
    add_suite_options(parser, out=False)
    parser.set_defaults(call=run_init)


def run_init(options: argparse.Namespace) -> int:
    """Run `triptych init`."""
    from triptych import api

    settings = flag_settings(options)
    methods = reading.parse_labels(options.methods)
    if methods is not None:
        settings["methods"] = methods
    file = api.init(
        options.file, preset=options.preset, settings=settings, device=options.device, plugins=options.plugin
    )
    command = shlex.join(["triptych", "compare", str(file), *options_for(options.plugin), "--dry-run"])
    print(f"{file}: read it, then `{command}` shows what would be done.")
    return 0
