"""For results with a synthetic model or data, the statement says which of them is synthetic."""

import pytest

from triptych.text.synthetic import synthetic_parts, synthetic_sentence


@pytest.mark.parametrize(
    ("model", "data", "begins", "ends"),
    [
        (True, True, "The model and the data are built in", "real models or documents."),
        (True, False, "The model is built in", "real models."),
        (False, True, "The data are built in", "real documents."),
    ],
)
def test_the_sentence_names_what_is_synthetic(model, data, begins, ends):
    """A real part is not called synthetic."""
    said = synthetic_sentence(synthetic_parts(model, data))
    assert said.startswith(begins) and said.endswith(ends)


def test_of_real_parts_nothing_is_said():
    """If neither is synthetic, nothing is said."""
    assert synthetic_sentence(synthetic_parts(model=False, data=False)) == ""
