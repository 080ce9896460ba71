"""`triptych list`: show what is registered, or what a data folder contains."""

import argparse

from triptych.cli.options import Commands, add_common_options, add_set_option
from triptych.errors import ConfigError


def add_list(commands: Commands) -> None:
    """Add the parser of `triptych list`."""
    parser = commands.add_parser(
        "list",
        help="show what is registered, or what a data folder contains",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Without arguments: methods with their options, baselines, data sets, metrics, "
        "models, the keys of a suite file and presets.\n`list keys [PART ...]`: keys of a suite file and options "
        "of methods, all or those whose names contain a part.\n`list data DIR`: what a folder contains and how it "
        "would be read.",
    )
    parser.add_argument("what", nargs="*", metavar="keys | data DIR", help="keys, or data DIR")
    add_set_option(
        parser, "with data DIR: columns.document=NAME, columns.summary=NAME, columns.id=NAME, split.fractions=[...]"
    )
    add_common_options(parser, model=False)
    parser.set_defaults(call=run_list)


def run_list(options: argparse.Namespace) -> int:
    """Run `triptych list`."""
    from rich.console import Console

    from triptych import api
    from triptych.cli.printing import show_data, show_keys, show_registered
    from triptych.config.reading import parse_settings

    if options.settings and options.what[:1] != ["data"]:
        raise ConfigError("--set belongs to `triptych list data DIR`, which says how a folder would be read.")
    if options.plugin and options.what[:1] == ["data"]:
        raise ConfigError("--plugin does not change what a folder contains: leave it out.")
    if not options.what:
        show_registered(Console(), api.list_registered(options.plugin))
    elif options.what[0] == "keys":
        show_keys(Console(), api.list_keys(options.plugin), options.what[1:])
    elif options.what[0] == "data" and len(options.what) == 2:
        show_data(Console(), api.describe_data(options.what[1], settings=parse_settings(options.settings)))
    else:
        raise ConfigError(
            f"triptych list {' '.join(options.what)}: use `triptych list`, `triptych list keys` or `triptych list data "
            "DIR`."
        )
    return 0
