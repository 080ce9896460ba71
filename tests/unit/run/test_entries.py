"""The entries of a suite: what a label means, and what is written for it."""

import pytest

from triptych.errors import ConfigError
from triptych.plugins import import_plugins
from triptych.run.entries import VARIANTS, make_entry, resolve

import_plugins()


def test_a_variant_needs_no_kind():
    """`last-head` trains only the head, `lora-all` every matrix of the blocks; further options are merged into
    these."""
    head, everywhere = make_entry("last-head", {}), make_entry("lora-all", {"rank": 4})
    assert head.kind == "last-layers"
    assert {name: head.options[name] for name in ("num_blocks", "final_norm", "head")} == {
        "num_blocks": 0,
        "final_norm": False,
        "head": "untied",
    }
    assert (everywhere.kind, everywhere.options["target_modules"], everywhere.options["rank"]) == (
        "lora",
        "all-linear",
        4,
    )


@pytest.mark.parametrize("label", VARIANTS)
def test_a_label_with_a_kind_means_that_kind_alone(label):
    """If the suite gives a label's kind, nothing of the variant applies."""
    assert make_entry(label, {"kind": "lora", "rank": 2}).options == make_entry("lora", {"rank": 2}).options


def test_a_variant_is_written_out():
    """The resolved suite has the kind and every option, so it means the same wherever it is read."""
    suite, entries = resolve({"methods": ["lead-3", "last-head"]})
    assert suite.method["last-head"] == {"kind": "last-layers", **entries[1].options}
    assert resolve(suite.model_dump())[0] == suite


def test_a_mistyped_variant_is_suggested():
    """A label close to a variant's is an error that names the variant."""
    with pytest.raises(ConfigError, match="last-head"):
        make_entry("last-haed", {})
