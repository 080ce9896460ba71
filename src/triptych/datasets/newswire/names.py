"""Names of people, places and companies; each belongs to only one split.

A name consists of a stem and an ending; the digest of the complete name decides which split may use it. The pretraining
corpus gets most names, so that a model trained on it learns how names are built, not which names exist.
"""

import hashlib
from functools import cache

PRETRAIN = "pretrain"  # the split on which the built-in model was trained

# How many of the 256 values of a digest's first byte belong to each split.
SHARES = ((PRETRAIN, 200), ("train", 28), ("validation", 14), ("test", 14))


def _table(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ONSETS = _table("B Br C Cr D Dr F Fl G Gr H K L M N P R S St T Tr V W")
RIMES = _table("al an ar el en in ol or")
SURNAME_ENDINGS = _table(
    "aby acott adine aker ander aski atti bury by combe cott dall dane den ders dez din dle dorn "
    "field gate gren ham hart hurst ier ino ita kin kowski land ley low man mere mond moor nell "
    "ner nez nik nov oway pole quist ridge rose sby sen shaw son stone stead tano ter tham ton "
    "vale vik wald ward well wick wood worth yard"
)
PLACE_ENDINGS = _table(
    "borough bridge burgh cester chester cliff cross dale fell firth ford grad harbor haven hill "
    "holm mouth minster pool port sands stadt stoke thorpe vik ville water"
)
COMPANY_ENDINGS = _table(
    "aco adyne alis amax atek aris co corp dex ergy ex gen ics idia ion ix mark nova ora plex tec tron us via"
)
FIRST_NAMES = _table(
    "Adam Ada Alan Alice Amir Amy Anna Ben Carl Carla Chen Clara Dana Daniel David Diana Eli Ella Emma Eric "
    "Eva Felix Fiona Grace Hana Harry Helen Hugo Ian Ines Iris Ivan Jack James Jane Joan Joel John Julia Karen "
    "Karl Kate Laura Leo Lily Linda Louis Lucy Luke Maria Mark Martin Mary Maya Mia Mohan Nadia Nina Noah Nora "
    "Olga Omar Oscar Owen Paul Peter Priya Rachel Ravi Rosa Ruth Sam Sara Simon Sofia Tom Vera Victor Yusuf Zoe"
)


def owner(name: str) -> str:
    """The only split that may use a complete name."""
    mark = hashlib.sha256(name.encode()).digest()[0]
    for split, share in SHARES:
        if mark < share:
            return split
        mark -= share
    raise AssertionError("the shares sum to 256")


@cache
def names_of(split: str, kind: str) -> tuple[str, ...]:
    """All complete names of one kind that belong to a split.

    Args:
        split: train, validation, test or pretrain.
        kind: surname, place or company.
    """
    table = {"surname": SURNAME_ENDINGS, "place": PLACE_ENDINGS, "company": COMPANY_ENDINGS}[kind]
    every = (onset + rime + ending for onset in ONSETS for rime in RIMES for ending in table)
    return tuple(name for name in every if owner(name) == split and name not in FIRST_NAMES)
