"""Find the designs that detect a difference, and the best one for a budget, by the decision rule of comparisons.

`docs/planning.md` describes the rules.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from triptych.analysis.chance import Chance
from triptych.analysis.costs import RowCost, Size, of_suite
from triptych.analysis.pairs import LEVEL
from triptych.analysis.power import POWER
from triptych.errors import ConfigError
from triptych.text import formats

MOST_SEEDS = 10
USUAL_SEEDS = 3  # fewer only if the budget does not allow this many
LEAST_DOCUMENTS = 50  # in the test split, if the data have that many
LEAST_EPOCHS = 2
LEAST_TRAIN_DOCUMENTS, LEAST_TRAIN_SHARE = 200, 0.1
_SHARES = (0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1)
_MOST_DOCUMENTS = 10**6  # beyond this, only seeds matter


@dataclass(frozen=True)
class Fit:
    """A design with its power and its seconds, if known."""

    size: Size
    power: float
    seconds: float | None

    @property
    def reaches(self) -> bool:
        """Whether it detects the difference with the required power."""
        return self.power >= POWER


@dataclass(frozen=True)
class Planner:
    """Designs for one suite.

    Attributes:
        chance: variance components of the difference between two trained methods on the primary measure.
        pairs: number of pairs of trained methods.
        detect: the true difference to detect.
        own: the size of the suite.
        test_available: number of test documents in the data.
        costs: cost of each method; empty if not known.
        scaling: numbers of training documents in `[scaling]`.
        enough: pairs beyond which no method gains more than the margin, from a data-size curve; None if unknown.
    """

    chance: Chance
    pairs: int
    detect: float
    own: Size
    test_available: int
    costs: Mapping[str, RowCost] = field(default_factory=dict)
    scaling: Sequence[int] = ()
    enough: int | None = None

    @property
    def level(self) -> float:
        """Two-sided level of one test at the strictest step of the correction over all pairs."""
        return LEVEL / self.pairs

    def power(self, documents: int, seeds: int) -> float:
        """The probability of detecting the difference."""
        return self.chance.design(documents, seeds, self.level).power(self.detect)

    def detectable(self, documents: int, seeds: int) -> float:
        """The smallest difference detected with 80% power."""
        return self.chance.design(documents, seeds, self.level).detectable()

    def least_documents(self, seeds: int) -> int | None:
        """The fewest documents from `LEAST_DOCUMENTS` that detect the difference often enough; None if none do."""
        low = min(LEAST_DOCUMENTS, self.test_available)
        if self.power(low, seeds) >= POWER:
            return low
        high = 2 * low
        while self.power(high, seeds) < POWER:
            low, high = high, 2 * high
            if high > _MOST_DOCUMENTS:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.power(middle, seeds) >= POWER else (middle, high)
        return high

    @cached_property
    def needs(self) -> dict[int, int | None]:
        """`least_documents` for each number of seeds from 2 on."""
        return {seeds: self.least_documents(seeds) for seeds in range(2, MOST_SEEDS + 1)}

    def needed(self, seeds: int) -> int | None:
        """`least_documents` for any number of seeds; None for one, which ranks no methods."""
        if seeds < 2:
            return None
        return self.needs[seeds] if seeds in self.needs else self.least_documents(seeds)

    @property
    def bottleneck(self) -> Literal["documents", "seeds", "none"]:
        """What the suite's design has too few of."""
        if self.own.seeds > 1 and self.power(self.own.test_documents, self.own.seeds) >= POWER:
            return "none"
        least = self.needed(self.own.seeds)
        if least is None:
            return "seeds"
        mostly_seeds = self.chance.share_of_seeds(self.own.test_documents, self.own.seeds) > 0.5
        return "seeds" if least > self.test_available and mostly_seeds else "documents"

    def fit(self, size: Size) -> Fit:
        """A design with its power and its costs."""
        return Fit(size, self.power(size.test_documents, size.seeds), self.seconds(size))

    def seconds(self, size: Size) -> float | None:
        """Seconds of all runs, one after another; None if costs are not known."""
        return sum(of_suite(self.costs, size, self.scaling).values()) if self.costs else None

    def cheapest(self, size: Size, least_seeds: int = 2) -> Fit | None:
        """The cheapest numbers of documents and seeds that detect the difference, with the training of `size`.

        If costs are not known, the design with the fewest test summaries in total.
        """
        fits = [
            self.fit(replace(size, test_documents=documents, seeds=seeds))
            for seeds, documents in self.needs.items()
            if seeds >= least_seeds and documents is not None and documents <= self.test_available
        ]
        return min(fits, key=lambda fit: fit.seconds or fit.size.test_documents * fit.size.seeds, default=None)

    def best(self, budget: float) -> Fit:
        """The best design for a budget in seconds.

        Raises:
            ConfigError: not even one seed of the smallest design fits.
        """
        trainings = list(self._trainings())
        for training in trainings:
            if (found := self.cheapest(training, USUAL_SEEDS)) and _fits(found, budget):
                return found
        if (found := self.cheapest(trainings[-1])) and _fits(found, budget):
            return found
        # The difference is out of reach: with any budget, and training is kept; or with this one, and it is minimal.
        within_reach = any(need is not None and need <= self.test_available for need in self.needs.values())
        for seeds in (range(USUAL_SEEDS, MOST_SEEDS + 1), range(2, 3), range(1, 2)):
            for training in trainings[-1:] if within_reach else trainings:
                fits = [fit for number in seeds if (fit := self._finest(training, number, budget))]
                if fits:
                    return min(fits, key=lambda fit: self.detectable(fit.size.test_documents, fit.size.seeds))
        least = replace(trainings[-1], seeds=1, test_documents=min(LEAST_DOCUMENTS, self.test_available))
        raise ConfigError(
            f"The budget of {budget:,.0f} seconds is below the smallest design, one seed of every method on "
            f"{formats.number_of(least.train_documents, 'training pair')}, "
            f"{formats.number_of(least.max_epochs, 'epoch')} and "
            f"{formats.number_of(least.test_documents, 'test document')}, "
            f"which takes about {self.seconds(least):,.0f} seconds. Give a larger budget, or choose fewer methods with "
            "--methods."
        )

    def _finest(self, training: Size, seeds: int, budget: float) -> Fit | None:
        """The design whose number of test documents fits and detects the smallest difference; None if none fits.

        It need not be the largest number: with few seeds, the seeds' part is poorly known, and its share grows with
        the documents.
        """
        least = min(LEAST_DOCUMENTS, self.test_available)
        size = replace(training, seeds=seeds)
        one, two = (self.seconds(replace(size, test_documents=documents)) or 0.0 for documents in (least, least + 1))
        if one > budget:
            return None
        more = int((budget - one) / (two - one)) if two > one else self.test_available
        numbers = [min(self.test_available, least + more)]
        while numbers[-1] > 2 * least:
            numbers.append(numbers[-1] // 2)
        return self.fit(replace(size, test_documents=min(numbers, key=lambda number: self.detectable(number, seeds))))

    def _trainings(self) -> Iterator[Size]:
        """Trainings to try, in order: the suite's, fewer epochs, then fewer training pairs.

        With a data-size curve, pairs beyond which no method gains more than the margin are dropped first. The suite's
        training stays larger than each size of its own curve, as `[scaling]` requires.
        """
        pairs, epochs = self.own.train_documents, self.own.max_epochs
        yield self.own
        above_curve = max((size + 1 for size in self.scaling), default=1)
        enough = pairs if self.enough is None else max(self.enough, above_curve)
        if enough < pairs:
            pairs = enough
            yield replace(self.own, train_documents=pairs)
        least_epochs = min(epochs, LEAST_EPOCHS)
        for fewer in range(epochs - 1, least_epochs - 1, -1):
            yield replace(self.own, train_documents=pairs, max_epochs=fewer)
        whole = self.own.train_documents
        floor = max(LEAST_TRAIN_DOCUMENTS, round(LEAST_TRAIN_SHARE * whole), above_curve)
        for share in _SHARES:
            fewer = max(floor, round(share * whole))
            if fewer < pairs:
                pairs = fewer
                yield replace(self.own, train_documents=pairs, max_epochs=least_epochs)


def _fits(fit: Fit, budget: float) -> bool:
    return fit.seconds is not None and fit.seconds <= budget


def enough_pairs(curves: Mapping[str, Mapping[int, float]], margin: float) -> int | None:
    """The smallest size on the data-size curves beyond which no method gains more than the margin.

    Args:
        curves: by method, the mean at each number of training documents; higher is better.
        margin: the largest gain that does not matter.

    Returns:
        None unless the methods' curves have at least two sizes in common.
    """
    sizes = sorted(set.intersection(*(set(curve) for curve in curves.values()))) if curves else []
    if len(sizes) < 2:
        return None
    return next(
        size
        for size in sizes
        if all(
            curve[sizes[-1]] - curve[later] <= margin for curve in curves.values() for later in sizes if later >= size
        )
    )
