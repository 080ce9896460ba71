"""All kinds of fault, by name."""

from pathlib import Path

from torture.caches import Caches
from torture.characters import Characters
from torture.disks import Disks
from torture.first_writes import FirstWrites
from torture.indexes import Indexes
from torture.outcomes import Kind
from torture.patterns import Patterns
from torture.swaps import Swaps

KINDS: dict[str, type[Kind]] = {
    kind.name: kind for kind in (Characters, Patterns, Indexes, Swaps, Disks, Caches, FirstWrites)
}


def make(name: str, folder: Path, small: bool = False) -> Kind:
    """Create a kind of fault; for the arguments see `Kind`.

    Raises:
        SystemExit: there is no kind with that name.
    """
    if name not in KINDS:
        raise SystemExit(f"There is no kind {name!r}; there are {', '.join(KINDS)}.")
    return KINDS[name](folder, small)
