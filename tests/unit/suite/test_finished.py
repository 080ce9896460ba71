"""The message for a refused run if a branch on the Hub has moved."""

import pytest

from triptych.suite.finished import _moved

OLD, NEW = "a" * 40, "b" * 40


@pytest.mark.parametrize("stored", ["", "+nf4"])
def test_the_commit_to_keep_is_named_without_the_quantization(stored):
    """The fingerprint of a quantized model ends in its quantization, which is not part of the revision."""
    said = _moved(f"some/model@{OLD}{stored}", f"some/model@{NEW}{stored}")
    assert f"--set model_revision={OLD} " in said


def test_of_another_model_nothing_is_said():
    """A local model has no branch, and another name is another model."""
    assert _moved("c" * 64, f"some/model@{NEW}") == _moved(f"other/model@{OLD}", f"some/model@{NEW}") == ""
