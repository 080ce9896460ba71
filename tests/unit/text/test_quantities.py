"""Quantities as people write them."""

import pytest

from triptych.text.quantities import BYTES_OF, ONES_OF, SECONDS_OF, read_quantity


@pytest.mark.parametrize(
    ("text", "units", "expected"),
    [
        ("1M", ONES_OF, 1e6),
        ("250k", ONES_OF, 250e3),
        ("1.5 B", ONES_OF, 1.5e9),
        ("1e6", ONES_OF, 1e6),
        ("2,500,000", ONES_OF, 2.5e6),
        ("0", ONES_OF, 0.0),
        ("2_500", ONES_OF, 2.5e3),
        ("0MB", BYTES_OF, 0.0),
        ("8GB", BYTES_OF, 8e9),
        ("8 GiB", BYTES_OF, 8 * 2.0**30),
        ("500mb", BYTES_OF, 5e8),
        ("8e9", BYTES_OF, 8e9),
        ("30min", SECONDS_OF, 1800.0),
        ("1.5 h", SECONDS_OF, 5400.0),
        ("90", SECONDS_OF, 90.0),
        ("-1", SECONDS_OF, -1.0),
    ],
)
def test_a_number_and_a_unit_are_read(text, units, expected):
    """Units are read in upper or lower case, with or without a space; a bare number is in the base unit."""
    assert read_quantity(text, units) == expected


@pytest.mark.parametrize(
    "text", ["", "M", "8GB of memory", "1Q", "ten", "1 000", "nan", "1m2", "5min", "1,5", "1,50,000", "1,5m"]
)
def test_what_is_no_quantity_is_none(text):
    """An unknown unit, words, or two numbers are not a quantity."""
    assert read_quantity(text, ONES_OF) is None
