"""`triptych plan`: the size that a comparison needs."""

import argparse

from triptych.cli.options import Commands, add_suite_options, flag_settings
from triptych.config import reading
from triptych.errors import ConfigError
from triptych.storage.files import named_path

PLAN_EXAMPLES = """examples:
  triptych plan --data ./my-data --within 8h           the best comparison for eight hours, before any run
  triptych plan results/pilot --detect 0.5             what half a point needs, from how a pilot's scores vary
  triptych plan results/pilot results/scores --json    variance from both, costs from the pilot, for programs"""


def add_plan(commands: Commands) -> None:
    """Add the parser of `triptych plan`."""
    parser = commands.add_parser(
        "plan",
        help="plan how large a comparison must be to find a difference",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=PLAN_EXAMPLES,
        description="Compute how many test documents and seeds it takes to detect a true difference "
        "with 80% power, which of the two is the bottleneck, what that costs, and the best design for a given "
        "time. This works from finished results folders, without a model, or from a suite: then a few documents "
        "are timed with every method, and its scores are assumed to vary as they did elsewhere.",
    )
    parser.add_argument(
        "given", nargs="*", metavar="SUITE.toml | OUT", help="a suite file, or results folders (pilots)"
    )
    parser.add_argument(
        "--detect",
        type=float,
        metavar="D",
        help="the true difference to find, on the primary measure (default: 1 ROUGE point, 0.04 nats)",
    )
    parser.add_argument("--within", metavar="TIME", help="time for all runs: 90s, 30min, 8h, 2d")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    add_suite_options(parser, out=False)
    parser.set_defaults(call=run_plan)


def run_plan(options: argparse.Namespace) -> int:
    """Run `triptych plan`."""
    from rich.console import Console

    from triptych.cli.printing import show_design
    from triptych.planning.planner import plan

    outs = [path for path in options.given if named_path(path).is_dir()]
    if len(options.given) > 1 and (other := next((path for path in options.given if path not in outs), None)):
        raise ConfigError(f"{other!r} is not a folder: plan takes one suite file, or results folders.")
    made = plan(
        options.given[0] if options.given and not outs else None,
        pilots=outs,
        detect=options.detect,
        within=options.within,
        preset=options.preset,
        settings=flag_settings(options),
        methods=reading.parse_labels(options.methods),
        device=options.device,
        plugins=options.plugin,
    )
    if options.json:
        print(made.model_dump_json(indent=2))
    else:
        show_design(Console(), made)
    return 0
