"""Whether the Hugging Face Hub answers, asked once with a short timeout; without an answer its caches are used."""

from collections.abc import Iterator
from contextlib import contextmanager

ANSWER_SECONDS = 5.0  # what a slow connection may take to answer


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Inside, the Hub's libraries read their caches alone if the Hub does not answer within `ANSWER_SECONDS`.

    Left to themselves they would try again and again, for each file.
    """
    import datasets
    from huggingface_hub import constants

    if constants.is_offline_mode() or _answers(constants.ENDPOINT):
        yield
        return
    switches = [
        (constants, "HF_HUB_OFFLINE"),
        (datasets.config, "HF_HUB_OFFLINE"),
        (datasets.config, "HF_DATASETS_OFFLINE"),
    ]
    before = [getattr(module, name) for module, name in switches]
    try:
        for module, name in switches:
            setattr(module, name, True)
        yield
    finally:
        for (module, name), value in zip(switches, before, strict=True):
            setattr(module, name, value)


def _answers(endpoint: str) -> bool:
    from huggingface_hub import get_session

    try:
        get_session().head(endpoint, timeout=ANSWER_SECONDS)
    except Exception:  # the HTTP library under the session decides which: each means that nothing answered
        return False
    return True
