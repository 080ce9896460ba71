"""Stories assembled from the tables, drawn from a digest of seed, split and index."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from random import Random

from triptych.contracts import SPLITS
from triptych.datasets.newswire.drawing import between, pick, shuffled
from triptych.datasets.newswire.names import PRETRAIN
from triptych.datasets.newswire.slots import COMMON_SLOTS, Forms, Slot, company, person, place
from triptych.datasets.newswire.stories import COLOR, STORIES
from triptych.errors import DataError

KINDS = tuple(STORIES)
# Color is added to an article until its length in words reaches a value drawn between these bounds.
SHORTEST_ARTICLE, LONGEST_ARTICLE = 125, 200
_ALTERNATIVES = re.compile(r"\[([^][]*)\]")
_SLOT = re.compile(r"\{(\w+)(:s)?\}")


@dataclass(frozen=True)
class Story:
    """A finished article with its highlights and the values drawn for it.

    Attributes:
        id: SPLIT-SEED-INDEX.
        kind: a key of `STORIES`.
        document: the article, on one line.
        summary: its highlights, one per line.
        facts: the value of each slot, as written in the article and in the highlights.
    """

    id: str
    kind: str
    document: str
    summary: str
    facts: Mapping[str, Forms]


@cache
def slots_of(template: str) -> tuple[str, ...]:
    """The names of the slots in a template."""
    return tuple(match[1] for match in _SLOT.finditer(template))


def fill(rng: Random, template: str, facts: Mapping[str, Forms]) -> str:
    """A sentence from a template, starting with a capital letter."""
    chosen = _ALTERNATIVES.sub(lambda match: pick(rng, match[1].split("|")), template)
    sentence = _SLOT.sub(lambda match: facts[match[1]][1 if match[2] else 0], chosen)
    return sentence[0].upper() + sentence[1:]


def draw_values(rng: Random, split: str, slots: Mapping[str, Slot]) -> dict[str, Forms]:
    """Draw a value for every slot; no name is drawn twice."""
    facts: dict[str, Forms] = {}
    taken: set[str] = set()
    for name, slot in slots.items():
        forms = slot(rng, split)
        while slot in (person, place, company) and forms[1] in taken:
            forms = slot(rng, split)
        taken.add(forms[1])
        facts[name] = forms
    return facts


def write_story(split: str, index: int, seed: int = 0) -> Story:
    """Story number `index` of a split, the same on every machine and for any number of stories.

    Args:
        split: train, validation, test or pretrain.
        index: from 0.
        seed: each seed gives different stories.

    Raises:
        DataError: there is no such split.
    """
    if split not in (*SPLITS, PRETRAIN):
        raise DataError(f"newswire has no split {split!r}; it has {', '.join(SPLITS)}.")
    digest = hashlib.sha256(f"newswire/{seed}/{split}/{index}".encode()).digest()
    rng = Random(int.from_bytes(digest[:8], "big"))
    kind = pick(rng, KINDS)
    story = STORIES[kind]
    facts = draw_values(rng, split, {**COMMON_SLOTS, **story.slots})

    main, *others = story.facts
    reported = [main, *shuffled(rng, others)[: between(rng, 1, 3)]]
    opening = fill(rng, pick(rng, story.openings), facts)
    bodies = [fill(rng, pick(rng, fact.body), facts) for fact in reported]
    text = " ".join([opening, *bodies]).lower()
    highlights = []
    for fact in reported:
        grounded = [line for line in fact.highlight if all(facts[name][0].lower() in text for name in slots_of(line))]
        highlights.append(fill(rng, pick(rng, grounded), facts))

    wanted = between(rng, SHORTEST_ARTICLE, LONGEST_ARTICLE)
    length = len(opening.split()) + sum(len(body.split()) for body in bodies)
    gaps: list[list[str]] = [[] for _ in reported]
    for template in shuffled(rng, (*COLOR, *story.color)):
        if length >= wanted:
            break
        sentence = fill(rng, template, facts)
        length += len(sentence.split())
        pick(rng, gaps + gaps[1:]).append(sentence)
    before = gaps[0][:1] if rng.random() < 0.3 else []
    sentences = [opening, *before, bodies[0], *gaps[0][len(before) :]]
    for body, gap in zip(bodies[1:], gaps[1:], strict=True):
        sentences += [body, *gap]
    return Story(f"{split}-{seed}-{index}", kind, " ".join(sentences), "\n".join(highlights), facts)
