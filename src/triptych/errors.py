"""The exceptions that Triptych raises, and helpers for the wording of their messages.

    TriptychError                  a run failed                                exit status 1
    ├── RunFailed                  a run of a suite did not finish
    │   ├── NonFiniteLoss          stopped before the optimizer step
    │   └── OutOfMemory            not even a pass over one document fits
    └── InputError                 usage or bad input, found before any work   exit status 2
        ├── ConfigError            a suite file, a key, a value, a name
        ├── DataError              documents and summaries that cannot be read or used
        ├── ModelError             a model or adapter that cannot be loaded or used
        └── ResultsError           a results folder that cannot be used

Every message says what was wrong, where, and what to do.
"""

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from triptych.foreign_names import meant_by

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

_MOST_PROBLEMS = 8  # listed in one message
_LONGEST_QUOTE = 120  # characters
_NEEDED = {  # by pydantic's name of a problem
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false is needed"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number is needed"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number is needed"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a table of keys is needed"),
    "string_type": "text is needed",
    "tuple_type": "a list is needed",
}


class TriptychError(Exception):
    """Base of every exception that Triptych raises on purpose.

    Its message is for the user: it says what was wrong, where, and what to do.
    """

    exit_status = 1


class RunFailed(TriptychError):
    """A run did not finish; the suite continues with the others."""


class NonFiniteLoss(RunFailed):
    """A loss or gradient became NaN or infinite; nothing was updated."""


class OutOfMemory(RunFailed, RuntimeError):
    """Memory ran out with one document per pass; a `RuntimeError`, like the allocator's own error."""


class InputError(TriptychError):
    """The request is wrong or its input cannot be used; nothing was computed."""

    exit_status = 2


class ConfigError(InputError):
    """A suite file, key, value or name is wrong."""


class DataError(InputError):
    """Documents or summaries cannot be read or used."""


class ModelError(InputError):
    """A model or adapter cannot be loaded or used."""


class ResultsError(InputError):
    """A results folder cannot be used for what was asked."""


class TriptychWarning(UserWarning):
    """Something cannot be shown or done as intended, and the work continues; the message is for the user."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name, with a leading space, such as ` Did you mean 'x'? Known: w, x, y.`.

    Args:
        name: what the user wrote.
        known: the existing names; if there are none, the hint has no list.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Known: {', '.join(names)}." if names else hint


def out_of_memory(error: BaseException) -> str | None:
    """Why memory ran out, if it did: in Python, or in torch on a GPU or a CPU, recognized without importing torch.

    The text, unlike the error, does not keep the tensors of the failed pass alive.

    Args:
        error: any error.

    Returns:
        The allocator's message in one line without its final period; None if the error is another one.
    """
    of_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    if not of_torch and not isinstance(error, MemoryError):
        return None
    return shorten(str(error) or type(error).__name__, 300).rstrip(".")


def shorten(text: str, most: int = _LONGEST_QUOTE) -> str:
    """Shorten a text for quoting in a message: one line of at most `most` characters, ending in dots if it was cut."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def explain_validation(error: "ValidationError", where: str, model: "type[BaseModel]") -> str:
    """Explain pydantic's errors in plain words: the key, its value and the remedy, one line per problem.

    Args:
        error: what pydantic raised; its first eight problems are explained.
        where: the section the values came from, put before each key; may be empty.
        model: the validated class, whose fields are suggested for a mistyped key.
    """
    lines = []
    for problem in error.errors()[:_MOST_PROBLEMS]:
        path = [str(part) for part in problem["loc"]]
        key = shorten(".".join(([where] if where else []) + path))
        if problem["type"] == "extra_forbidden":
            section = ".".join(([where] if where else []) + path[:-1])
            lines.append(f"Unknown key {key!r}.{_hint(path, section, model)}")
        else:
            lines.append(f"{key!r} is {shorten(repr(problem['input']))}: {_needed(problem)}.")
    return "\n".join(lines)


def _needed(problem: "ErrorDetails") -> str:
    """What a value should be, in plain words, with the way to write it as text or as a list."""
    message, value = _NEEDED.get(problem["type"]), problem["input"]
    if message is None:
        message = problem["msg"][0].lower() + problem["msg"][1:]
        return message.removeprefix("value error, ")
    if problem["type"] == "string_type" and not isinstance(value, bool | list | dict):
        return f"{message}: put it in quotes, which a shell keeps if written '\"{value}\"'"
    if problem["type"] == "tuple_type" and isinstance(value, str):
        return f'{message}, such as ["{shorten(value, 60)}"]'
    return message


def _hint(path: list[str], section: str, model: "type[BaseModel]") -> str:
    """A hint for an unknown key: it may be another tool's name, a key of another section, or a typo."""
    name, fields = path[-1][:_LONGEST_QUOTE], _fields_at(model, path[:-1])
    if name.replace("-", "_") not in fields and (meant := meant_by(name, section)):
        return meant
    elsewhere = [f"{other}.{name}" for other in model.model_fields if name in _fields_at(model, [other])]
    if elsewhere:
        return f" Did you mean {' or '.join(map(repr, elsewhere))}?"
    return nearest(name, fields)


def _fields_at(model: "type[BaseModel]", path: list[str]) -> list[str]:
    """The fields of the nested model at a path of keys; empty if the path does not lead to a model."""
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not hasattr(annotation, "model_fields"):
            return []
        model = annotation  # type: ignore[assignment]
    return list(model.model_fields)
