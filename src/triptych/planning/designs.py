"""A plan in figures and words, from what is known about a suite."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from triptych.analysis import costs as costing
from triptych.analysis.chance import Chance
from triptych.analysis.planning import USUAL_SEEDS, Fit, Planner
from triptych.analysis.power import POWER
from triptych.config.schema import Suite
from triptych.errors import ConfigError
from triptych.results.records import DesignPlan, MeasureChance, Need, PlannedDesign
from triptych.text import formats

DETECT = {"loss": 0.04}  # other measures: 1 point; both are twice the default margin


@dataclass(frozen=True)
class Known:
    """What a plan is based on.

    Attributes:
        suite: the suite to be planned.
        trained: labels of its methods that train.
        size: its own size.
        test_available: test documents in the data.
        chance: how scores vary on each known measure, the primary one included.
        costs: costs of each method; empty: not known.
        costs_from: a phrase that says where they come from.
        enough: training pairs beyond which no method gains more than the margin; None: not known.
        arguments: command-line arguments that run the suite as it is.
        notes: sentences about what was taken from where.
    """

    suite: Suite
    trained: tuple[str, ...]
    size: costing.Size
    test_available: int
    chance: Mapping[str, tuple[Chance, MeasureChance]]
    costs: Mapping[str, costing.RowCost]
    costs_from: str
    arguments: tuple[str, ...]
    enough: int | None = None
    notes: tuple[str, ...] = field(default=())


def own_size(suite: Suite, available: Mapping[str, int]) -> costing.Size:
    """The suite's own size: its limits, or all there is."""

    def used(limit: int, split: str) -> int:
        there = available.get(split, 0)
        return min(limit, there) if limit and there else limit or there

    limits = suite.limits
    return costing.Size(
        used(limits.train_documents, "train"),
        used(limits.validation_documents, "validation"),
        used(limits.test_documents, "test"),
        suite.training.max_epochs,
        len(suite.seeds),
    )


def conclude(known: Known, detect: float | None, budget: float | None) -> DesignPlan:
    """Make the plan.

    Args:
        known: what it is based on.
        detect: the true difference to find, in the primary measure's units; None: the default.
        budget: seconds for all runs; None: no budget.

    Raises:
        ConfigError: the budget is below the smallest design, or no costs are known to plan with.
    """
    analysis = known.suite.analysis
    primary = analysis.primary
    wanted = DETECT.get(primary, 1.0) if detect is None else detect
    pairs = len(known.trained) * (len(known.trained) - 1) // 2
    costs, scaling = known.costs, known.suite.scaling.train_documents
    planner = Planner(
        known.chance[primary][0], pairs, wanted, known.size, known.test_available, costs, scaling, known.enough
    )
    of_loss = None
    if primary != "loss" and "loss" in known.chance:
        detect_loss = wanted * analysis.loss_margin / analysis.margin
        of_loss = Planner(known.chance["loss"][0], pairs, detect_loss, known.size, known.test_available, costs, scaling)
    if budget is not None and not costs:
        raise ConfigError(
            "--within needs what runs cost, and scored files do not say: give a results folder of compare too."
        )
    own, needed = planner.fit(known.size), planner.cheapest(known.size)
    best = None if budget is None else planner.best(budget)
    show = Shown(known, planner, of_loss)
    chosen = best or needed or own
    measures = dict.fromkeys([primary, *known.chance])
    return DesignPlan(
        primary=primary,
        detect=wanted,
        detect_loss=of_loss.detect if of_loss else None,
        power=POWER,
        level=planner.level,
        pairs=pairs,
        chance=[known.chance[measure][1] for measure in measures],
        needs=_needs(planner),
        needs_loss=_needs(of_loss) if of_loss else [],
        bottleneck=planner.bottleneck,
        own=show.design(own),
        needed=show.design(needed) if needed else None,
        within_seconds=budget,
        best=show.design(best) if best else None,
        row_seconds=costing.of_suite(costs, chosen.size, scaling),
        sentences=[*known.notes, *show.sentences(own, needed, best, budget)],
        command=show.command(best or needed),
    )


@dataclass(frozen=True)
class Shown:
    """Designs as a plan shows them."""

    known: Known
    planner: Planner
    of_loss: Planner | None

    def design(self, fit: Fit) -> PlannedDesign:
        """A design with the differences that it detects."""
        size = fit.size
        return PlannedDesign(
            train_documents=size.train_documents,
            max_epochs=size.max_epochs,
            validation_documents=size.validation_documents,
            test_documents=size.test_documents,
            seeds=self.seeds(size.seeds),
            power=fit.power,
            detectable=self.planner.detectable(size.test_documents, size.seeds),
            detectable_loss=self.of_loss.detectable(size.test_documents, size.seeds) if self.of_loss else None,
            seconds=fit.seconds,
        )

    def seeds(self, number: int) -> list[int]:
        """The given number of seeds, those of the suite first."""
        own = list(self.known.suite.seeds)
        return [*own, *(seed for seed in range(number + len(own)) if seed not in own)][:number]

    def command(self, fit: Fit | None) -> str:
        """The command that runs a design; empty if there is none, or only scored files are known."""
        if fit is None or not self.known.arguments:
            return ""
        size, own = fit.size, self.known.size
        settings = [f"limits.test_documents={size.test_documents}"]
        if size.train_documents != own.train_documents:
            settings.append(f"limits.train_documents={size.train_documents}")
        if size.max_epochs != own.max_epochs:
            settings.append(f"training.max_epochs={size.max_epochs}")
        seeds = ",".join(map(str, self.seeds(size.seeds)))
        out = f"results/{self.known.suite.name}-planned"
        return shlex.join(["triptych", *self.known.arguments, "--set", *settings, "--seeds", seeds, "--out", out])

    def sentences(self, own: Fit, needed: Fit | None, best: Fit | None, budget: float | None) -> list[str]:
        """The plan in words."""
        p = self.planner
        sentences = [
            f"To find a true difference of {self._points(p.detect)} between two methods that train in four of five "
            f"comparisons, at the strictest step of the correction over {formats.number_of(p.pairs, 'pair')} of such "
            "methods (those that train nothing are taken to differ clearly, so that the correction passes them first), "
            f"{self._needed(needed)}"
        ]
        sentences += [self._bottleneck(own), *self._range(best or needed or own), *self._of_loss(best or needed or own)]
        if self.known.costs:
            sentences.append(
                f"Costs are estimated {self.known.costs_from}, for runs one after another that last all their "
                "epochs: early stopping lowers them."
            )
        else:
            sentences.append("Costs are not known: scored files do not say what was spent.")
        if best is not None and budget is not None:
            sentences.append(self._budget(best, budget))
        chosen = best or needed
        if chosen is not None and chosen.size.seeds == 2:
            sentences.append(
                "Two seeds show little of how much training varies: intervals are wide, and only large differences "
                "are found."
            )
        return sentences

    def _needed(self, needed: Fit | None) -> str:
        p = self.planner
        if needed is not None:
            seconds = "" if needed.seconds is None else f", about {formats.seconds(needed.seconds)} in all"
            return f"{_documents_and_seeds(needed)} are needed at the least cost{seconds}."
        if fewest := self._fewest_documents():
            seeds, documents = fewest
            return (
                f"the {p.test_available:,} available test documents are not enough: {documents:,} are needed "
                f"even under {formats.number_of(seeds, 'seed')}."
            )
        most = formats.number_of(max(p.needs), "seed")
        return f"no number of documents suffices with up to {most}: training varies too much from seed to seed."

    def _bottleneck(self, own: Fit) -> str:
        p, size = self.planner, own.size
        share = p.chance.share_of_seeds(size.test_documents, size.seeds)
        design = f"The suite's own design ({_documents_and_seeds(own)}) finds it in {own.power:.0%} of comparisons"
        parts = f"{1 - share:.0%} of the variance of its differences comes from documents, {share:.0%} from seeds"
        if size.seeds == 1:
            return (
                f"{design}, but only between trained models: with one seed no method is ranked, and seeds are what is "
                f"lacking{self._documents_too()}."
            )
        if p.bottleneck == "none":
            return f"{design}: {parts}."
        least = p.needed(size.seeds)
        if least is None:
            enough = f"under {size.seeds} seeds no number of documents is enough{self._documents_too()}"
        else:
            beyond = "" if least <= p.test_available else f", more than the {p.test_available:,} there are"
            also = self._documents_too() if p.bottleneck == "seeds" else ""
            enough = f"under {size.seeds} seeds {least:,} documents are needed{beyond}{also}"
        return f"{design}. {p.bottleneck.capitalize()} are the bottleneck: {enough}. {parts}."

    def _documents_too(self) -> str:
        """A remark for when more seeds would not be enough with the available documents."""
        fewest = self._fewest_documents()
        if fewest is None or fewest[1] <= self.planner.test_available:
            return ""
        seeds, documents = fewest
        return f"; documents are too few as well: even under {seeds} seeds {documents:,} are needed"

    def _fewest_documents(self) -> tuple[int, int] | None:
        """The number of seeds that needs the fewest documents, and how many; None: no number of documents is enough."""
        there = [(seeds, documents) for seeds, documents in self.planner.needs.items() if documents is not None]
        return min(there, key=lambda need: need[1], default=None)

    def _range(self, chosen: Fit) -> list[str]:
        """What the chosen design detects if seeds vary as much as the pilot allows."""
        facts = self.known.chance[self.known.suite.analysis.primary][1]
        if facts.seed_sd_high is None or chosen.size.seeds < 2:
            return []
        chance = Chance(self.planner.chance.documents, self.planner.chance.noise, (facts.seed_sd_high**2,) * 2)
        finds = chance.design(chosen.size.test_documents, chosen.size.seeds, self.planner.level).detectable()
        return [
            f"The pilot's seeds say that a seed's mean has an SD of {facts.seed_sd:.2g}, between "
            f"{facts.seed_sd_low:.2g} and {facts.seed_sd_high:.2g} (90%): at the upper end "
            f"{_documents_and_seeds(chosen)} find {self._points(finds)}."
        ]

    def _of_loss(self, chosen: Fit) -> list[str]:
        if self.of_loss is None:
            return []
        finds = self.of_loss.detectable(chosen.size.test_documents, chosen.size.seeds)
        power = self.of_loss.power(chosen.size.test_documents, chosen.size.seeds)
        return [
            f"On the test loss {_documents_and_seeds(chosen)} find {finds:.2g} nats per target token four times in "
            f"five, and {self.of_loss.detect:.2g} nats in {power:.0%}."
        ]

    def _budget(self, best: Fit, budget: float) -> str:
        p, size = self.planner, best.size
        cut = []
        if size.max_epochs != p.own.max_epochs:
            cut.append(f"{formats.number_of(size.max_epochs, 'epoch')} instead of {p.own.max_epochs}")
        if size.train_documents != p.own.train_documents:
            cut.append(f"{size.train_documents:,} training pairs instead of {p.own.train_documents:,}")
        training = f"with {formats.listed(cut)}" if cut else "with the suite's training pairs and epochs"
        if p.enough is not None and p.enough <= size.train_documents != p.own.train_documents:
            training += ", beyond which no method of the pilot's data-size curve gains more than the margin"
        elif cut and p.enough is None:
            training += "; what more training would bring is not known without a [scaling] pilot"
        seconds = formats.seconds(best.seconds)
        what = f"the best design is {_documents_and_seeds(best)}, {training}; it takes at most about {seconds}"
        if best.reaches:
            detects = f"detects {self._points(p.detect)} with {best.power:.0%} power"
            return f"Within {formats.seconds(budget)} {what}, and {detects}."
        finds = self._points(p.detectable(size.test_documents, size.seeds))
        alone = (
            " One seed says nothing about the methods: only these trained models are compared."
            if size.seeds == 1
            else ""
        )
        few = f" {USUAL_SEEDS} seeds do not fit." if size.seeds < USUAL_SEEDS else ""
        return (
            f"Within {formats.seconds(budget)} a difference of {self._points(p.detect)} cannot be detected with 80% "
            f"power; {what}, and detects {finds}.{few}{alone}"
        )

    def _points(self, difference: float) -> str:
        if self.known.suite.analysis.primary == "loss":
            return f"{difference:.2g} nats"
        number = f"{difference:.3g}"
        return f"{number} {'point' if number == '1' else 'points'}"


def _documents_and_seeds(fit: Fit) -> str:
    documents = formats.number_of(fit.size.test_documents, "test document")
    return f"{documents} and {formats.number_of(fit.size.seeds, 'seed')}"


def _needs(planner: Planner) -> list[Need]:
    return [
        Need(
            seeds=seeds,
            documents=documents,
            available=documents is not None and documents <= planner.test_available,
            seconds=None
            if documents is None
            else planner.seconds(
                costing.Size(
                    planner.own.train_documents,
                    planner.own.validation_documents,
                    documents,
                    planner.own.max_epochs,
                    seeds,
                )
            ),
        )
        for seeds, documents in planner.needs.items()
    ]
