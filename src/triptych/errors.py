"""Everything Triptych raises on purpose.

    TriptychError                  a run failed                                exit status 1
    ├── RunFailed                  a run of a suite did not finish
    │   └── NonFiniteLoss          stopped before the optimizer step
    └── InputError                 usage or bad input, found before any work   exit status 2
        ├── ConfigError            a suite file, a key, a value, a name
        ├── DataError              documents and summaries that cannot be read or used
        ├── ModelError             a model or adapter that cannot be loaded or used
        └── ResultsError           a results folder that cannot be used

A message says what was wrong, where, and what to do.
"""

import difflib
from collections.abc import Iterable


class TriptychError(Exception):
    """Base of every error raised on purpose."""

    exit_status = 1


class RunFailed(TriptychError):
    """A run did not finish; the suite goes on with the others."""


class NonFiniteLoss(RunFailed):
    """A loss or gradient became NaN or infinite; nothing was updated."""


class InputError(TriptychError):
    """The request cannot be carried out as it stands."""

    exit_status = 2


class ConfigError(InputError):
    """A suite file, key, value or name is wrong."""


class DataError(InputError):
    """Documents or summaries cannot be read or used."""


class ModelError(InputError):
    """A model or adapter cannot be loaded or used."""


class ResultsError(InputError):
    """A results folder cannot be used for what was asked."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: ` Did you mean 'x'?` and the list of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Known: {', '.join(names)}." if names else hint
