"""Quantities as people write them: 1M parameters, 8GB of memory, 30min."""

import re
from collections.abc import Mapping

SECONDS_OF = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
BYTES_OF = {
    "b": 1.0,
    **{f"{name}b": 1000.0 ** (power + 1) for power, name in enumerate("kmgt")},
    **{f"{name}ib": 1024.0 ** (power + 1) for power, name in enumerate("kmgt")},
}
ONES_OF = {"k": 1e3, "m": 1e6, "b": 1e9}
_NUMBER = r"[+-]?(?:(?:\d{1,3}(?:,\d{3})+|\d+(?:_\d+)*)(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?"  # a comma separates thousands
_QUANTITY = re.compile(rf"\s*({_NUMBER})\s*([a-z]*)\s*", re.IGNORECASE)


def read_quantity(text: str, units: Mapping[str, float]) -> float | None:
    """Parse a quantity; the result is in the base unit of `units`, or None if the text is not a quantity.

    Args:
        text: a number, such as `8`, `1e6` or `2,500`, optionally followed by a unit in any case.
        units: the value of each unit, keyed by its name in lower case.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None or (match[2] and match[2].lower() not in units):
        return None
    return float(re.sub("[,_]", "", match[1])) * units.get(match[2].lower(), 1.0)
