"""Run Typst in isolation: bundled fonts, no network, no clock, and data passed as JSON, never as markup."""

import json
import warnings
from pathlib import Path
from typing import Any, Literal

import matplotlib
import typst

from triptych.errors import ResultsError

_FOLDER = Path(__file__).parent / "paper"


def typeset(
    template: str, document: dict[str, Any], target: Literal["pdf", "html"], inputs: dict[str, str] | None = None
) -> bytes:
    """Typeset a template of this package.

    Args:
        template: a file in the folder `paper`.
        document: what the template reads as `doc`.
        target: `pdf` or `html`.
        inputs: more strings that the template reads.

    Raises:
        ResultsError: this copy of the package lacks the templates.
    """
    if not (_FOLDER / template).is_file():
        raise ResultsError(
            f"This copy of Triptych has only .py files and lacks the templates for report.{target}: "
            "comparison.json, comparison.csv and comparison.md are written. Install Triptych for the reports."
        )
    compiler = typst.Compiler(
        str(_FOLDER / template),
        root=str(_FOLDER),
        ignore_system_fonts=True,
        font_paths=[f"{matplotlib.get_data_path()}/fonts/ttf"],
        sys_inputs={"document": json.dumps(document, ensure_ascii=False), "target": target, **(inputs or {})},
    )
    content, complaints = compiler.compile_with_warnings(format=target, timestamp=0)
    for complaint in complaints:
        if "html export is under active development" not in str(complaint):
            warnings.warn(f"report.{target}: {complaint}", stacklevel=2)
    if not isinstance(content, bytes):
        raise TypeError(f"Typst made {type(content).__name__} of {template}, and one document was asked for.")
    return content
