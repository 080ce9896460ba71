"""Generate docs/keys.md: every key of a suite file and every option of a method, from the models that validate them."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from triptych.api import list_keys
from triptych.config.keys import SuiteKey, sections, toml_value
from triptych.config.reading import preset_settings, presets
from triptych.config.schema import Suite
from triptych.foreign_names import FOREIGN_NAMES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "keys.md"
COMMAND = "python scripts/keys_page.py --write"

HEAD = """# Keys of a suite file

`triptych init` writes a suite file with these keys, `triptych list keys` prints them, and `--set KEY=VALUE` sets any
of them for a command: `--set limits.train_documents=64 method.lora.rank=16`. A key that is not given has the default of
its preset, else the one shown here. This page is written by `python scripts/keys_page.py --write`.

"""

PRESETS = """## Presets

A preset is what settings start from: `--preset NAME`. Without it, `triptych compare` alone takes `demo`; with a suite
file, `--model` or `--data` it takes `assignment`. A suite file overrides the preset, flags override both, and `--set`
overrides all of them. `--dry-run` shows what results. Only `demo` needs no GPU and no network.

"""

OPTIONS = """
## Options of methods

`[method.LABEL]` holds the options of one method. Its label is the name of a method or baseline below, or any other name
with the key `kind`: `[method.lora-r4]`, `kind = "lora"`. `last-head` and `lora-all` need no `kind`: they are variants
of `last-layers` and `lora` ([what they train](methods.md)).
"""


def page() -> str:
    """The whole page."""
    keys = list_keys()
    parts = [
        HEAD,
        PRESETS,
        preset_table(),
        "\n## The comparison\n\n",
        table([key for key in keys if "." not in key.name]),
    ]
    for name, purpose in sections().items():
        inside = [key for key in keys if key.name.startswith(f"{name}.")]
        parts.append(f"\n## [{name}]\n\n{purpose}\n\n{table(inside)}")
    parts.append(OPTIONS)
    kinds = dict.fromkeys(key.name.split(".")[1] for key in keys if key.name.startswith("method."))
    for kind in kinds:
        parts.append(f"\n### [method.{kind}]\n\n{table([k for k in keys if k.name.startswith(f'method.{kind}.')])}")
    parts.append("\n## Names of other tools\n\nGiven one of these, Triptych answers with its own key.\n\n")
    parts.append("| elsewhere | here |\n|---|---|\n")
    for name, meant in FOREIGN_NAMES.items():
        remark = f": {meant.remark}" if meant.remark else ""
        parts.append(f"| `{name}` | {' and '.join(f'`{key}`' for key in meant.keys)}{cell(remark)} |\n")
    return "".join(parts)


def preset_table() -> str:
    """The presets as a Markdown table, each with the settings that determine its cost."""
    suites = {name: Suite.model_validate(preset_settings(name)) for name in presets()}
    settings: dict[str, Callable[[Suite], str]] = {
        "model": lambda suite: f"`{suite.model}`",
        "data": lambda suite: f"`{suite.data}`",
        "training, validation and test documents": lambda suite: " / ".join(
            f"{number:,}" if number else "all"
            for number in (
                suite.limits.train_documents,
                suite.limits.validation_documents,
                suite.limits.test_documents,
            )
        ),
        "tokens of a document": lambda suite: f"{suite.limits.document_tokens}",
        "epochs, at most": lambda suite: f"{suite.training.max_epochs}",
        "learning rates tried per method": lambda suite: f"{suite.search.trials or 'none'}",
        "beams": lambda suite: f"{suite.decoding.num_beams}",
        "seeds": lambda suite: f"{len(suite.seeds)}",
    }
    lines = [f"| | {' | '.join(f'`{name}`' for name in suites)} |\n|---|{'---|' * len(suites)}\n"]
    lines += [f"| {what} | {' | '.join(map(shown, suites.values()))} |\n" for what, shown in settings.items()]
    return "".join(lines)


def table(keys: list[SuiteKey]) -> str:
    """A Markdown table of keys."""
    lines = ["| key | default | values | meaning |\n|---|---|---|---|\n"]
    for key in keys:
        default = "not set" if key.default is None else f"`{cell(toml_value(key.default))}`"
        lines.append(f"| `{key.name}` | {default} | {cell(key.allowed)} | {cell(key.description)} |\n")
    return "".join(lines)


def cell(text: str) -> str:
    """Text escaped for a table cell."""
    return text.replace("|", "\\|")


def main() -> int:
    """Parse the command line; check or write the page."""
    parser = argparse.ArgumentParser(description="The page of all keys, docs/keys.md.")
    parser.add_argument("--write", action="store_true", help="write the page instead of checking it")
    write = parser.parse_args().write
    if write:
        PAGE.write_text(page(), encoding="utf-8")
    current = PAGE.read_text(encoding="utf-8") == page()
    print(f"docs/keys.md: {'up to date' if current else f'out of date; run `{COMMAND}`'}")
    return int(not current)


if __name__ == "__main__":
    sys.exit(main())
