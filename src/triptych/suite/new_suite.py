"""Write a suite file to start from: keys explained, columns recognized, limits that fit the window and this machine."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from triptych.config import reading
from triptych.config.keys import suite_text
from triptych.config.schedule import num_evaluations
from triptych.config.schema import Limits, Suite, make_suite
from triptych.contracts import Baseline, Method
from triptych.errors import ConfigError
from triptych.machine import choose_device
from triptych.measure.parameters import count_parameters
from triptych.models.base import BaseModel
from triptych.registry import registered
from triptych.run import entries
from triptych.run.corpus import longest_prompt, open_data, reserved_positions
from triptych.run.search import planned_trials
from triptych.storage.files import expand_path
from triptych.text import formats

HOURS = 8.0  # what a suite may take, roughly
EFFICIENCY = 0.5  # of training, as a fraction of the speed of a matrix product
SMALLEST = {"train_documents": 64, "validation_documents": 32, "test_documents": 48}
SHRUNK_EPOCHS = 3  # if there is not time for all documents


def new_suite(preset: str | None, over: Mapping[str, Any], name: str, device: str | None) -> str:
    """The text of a suite file.

    Args:
        preset: settings to start from; None: `reading.default_preset`.
        over: the keys of a suite file that are given.
        name: the name of the suite, if `over` has none.
        device: cpu, cuda or mps; None: the best there is.

    Raises:
        InputError: model or data cannot be read, or the window has no room for a document.
    """
    start = preset or reading.default_preset(None, over)
    settings = reading.merge_settings(None, start, {"name": name, **over})
    suite, rows = entries.resolve(settings)
    settings["model"], settings["data"] = suite.model, suite.data
    notes = []
    data = open_data(suite)
    if expand_path(suite.data).exists():  # nothing is downloaded from the Hub yet
        columns = data.columns_read()
        settings = reading.merge_tables(settings, {"columns": columns} if columns else {})
        notes += list(data.notes())
    base = BaseModel.of(suite)
    room = _room(suite, rows, base)
    if room is not None and room < suite.limits.document_tokens:
        if room < 1:
            raise ConfigError(
                f"The model {suite.model!r} has {base.context_length} positions: too few for a document and a summary "
                f"of {max(suite.limits.summary_tokens, suite.decoding.max_new_tokens)} tokens. Add, for example, "
                "--set limits.summary_tokens=64 decoding.max_new_tokens=64."
            )
        settings = reading.merge_tables(settings, {"limits": {"document_tokens": room}})
        notes.append(f"Documents are cut at {room} tokens: the model has {base.context_length} positions.")
    if base.context_length is not None and (room or 0) > suite.limits.document_tokens:
        notes.append(f"limits.document_tokens may be up to {room}: the model has {base.context_length} positions.")
    sized, hours = _sized(make_suite(settings), rows, base, device, over)
    settings = reading.merge_tables(settings, sized)
    one_seed = " and one seed" if "seeds" in sized else ""
    fewer = f", with fewer documents and epochs{one_seed}" if sized else ""
    notes.append(
        f"Roughly {formats.seconds(hours * 3600)} on this machine, as busy as it was{fewer}: the dry run measures it."
    )
    head = (
        f"A suite for `triptych compare`, from the preset {start!r}. Keys in comments have their defaults.\n\n"
        + "\n".join(notes)
    )
    return suite_text(settings, head, {**registered(Method), **registered(Baseline)})


def name_for(file: Path, over: Mapping[str, Any]) -> str:
    """The name of a suite: that of its file, or of its data if the file has the usual name."""
    stem = file.stem if file.stem != "suite" else Path(str(over.get("data") or "")).name.partition(".")[0]
    return "".join(c for c in stem if c.isalnum() or c in "-_").strip("-_")[:60] or "suite"


def _room(suite: Suite, rows: list[entries.SuiteEntry], base: BaseModel) -> int | None:
    """Tokens that a document may have; None: no fixed limit."""
    if base.context_length is None:
        return None
    new = max(suite.limits.summary_tokens, suite.decoding.max_new_tokens)
    return base.context_length - reserved_positions(rows) - new - longest_prompt(suite, rows, base)


def _sized(
    suite: Suite, rows: list[entries.SuiteEntry], base: BaseModel, device: str | None, over: Mapping[str, Any]
) -> tuple[dict[str, Any], float]:
    """Fewer documents and epochs and one seed if the suite would take too long, except for what is given; the hours."""
    speed = _products_per_second(choose_device(device))
    parameters = count_parameters(base.structure()).total
    given = {section: dict(over.get(section) or {}) for section in ("limits", "training", "search")}
    pass_seconds = 2 * parameters * (suite.limits.document_tokens + suite.limits.summary_tokens) / (EFFICIENCY * speed)
    for share in (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001):
        changes = _shrunk(suite, share) if share < 1 else {}
        changes = {
            section: {key: value for key, value in keys.items() if key not in given.get(section, {})}
            for section, keys in changes.items()
        }
        if "seeds" not in over and share < 1:
            changes["seeds"] = [suite.seeds[0]]
        smaller = make_suite(reading.merge_tables(suite.model_dump(mode="json"), changes))
        hours = _passes(smaller, rows) * pass_seconds / 3600
        if hours <= HOURS:
            break
    return {key: value for key, value in changes.items() if value}, hours


def _shrunk(suite: Suite, share: float) -> dict[str, Any]:
    limits = {
        key: max(_rounded(getattr(suite.limits, key) * share), SMALLEST[key])
        for key in SMALLEST
        if getattr(suite.limits, key) > SMALLEST[key]
    }
    return {"limits": limits, "training": {"max_epochs": min(suite.training.max_epochs, SHRUNK_EPOCHS)}}


def _rounded(value: float) -> int:
    """Round to two digits."""
    return int(float(f"{value:.1e}"))


def _passes(suite: Suite, rows: list[entries.SuiteEntry]) -> float:
    """The rough number of forward passes over a pair in all runs; a training pass counts as three."""
    t, s = suite.training, suite.search
    usual, own = Limits().model_dump(), suite.limits.model_dump()
    limits = Limits(**{key: number or usual[key] for key, number in own.items()})  # 0 is all, and not counted here
    written = 1 + 2 * suite.decoding.num_beams * suite.decoding.max_new_tokens / limits.document_tokens
    total = 0.0
    for row in rows:
        if not isinstance(row.plugin, Method):
            continue
        epochs, seeds = (t.max_epochs, len(suite.seeds)) if row.trains else (0, 1)
        evaluations = num_evaluations(epochs, t.eval_every) + 2
        evaluated = limits.validation_documents * evaluations + limits.test_documents * (1 + written)
        total += seeds * (3 * epochs * limits.train_documents + evaluated)
        trials = planned_trials(suite, row.plugin, limits.train_documents) if row.trains else []
        total += 3 * sum(trials) * t.global_batch_size + len(trials) * s.validation_documents
    return total


def _products_per_second(device: str, size: int = 1024) -> float:
    """FLOP per second of a matrix product in fp32 on this machine."""
    left, right = torch.ones(size, size, device=device), torch.ones(size, size, device=device)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        float((left @ right)[0, 0])
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def write_new_suite(file: Path, text: str) -> None:
    """Write the text to a file that does not exist yet.

    Raises:
        ConfigError: it exists, or cannot be written.
    """
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise ConfigError(f"{str(file)!r} exists and is not overwritten: give another name, or move it away.") from None
    except OSError as error:
        raise ConfigError(f"{str(file)!r} cannot be written: {error.strerror}.") from None
