"""Whether the hub answers, found out once and soon, rather than by every library's own retries."""

from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 5.0  # what a slow connection may take to answer


@contextmanager
def caches_alone_without_a_hub() -> Iterator[None]:
    """Inside, the hub's libraries use their caches alone if the hub does not answer within seconds.

    Left to themselves they try again and again, for each file.
    """
    import datasets
    from huggingface_hub import constants

    if constants.is_offline_mode() or _answers(constants.ENDPOINT):
        yield
        return
    places = [
        (constants, "HF_HUB_OFFLINE"),
        (datasets.config, "HF_HUB_OFFLINE"),
        (datasets.config, "HF_DATASETS_OFFLINE"),
    ]
    before = [getattr(module, name) for module, name in places]
    try:
        for module, name in places:
            setattr(module, name, True)
        yield
    finally:
        for (module, name), value in zip(places, before, strict=True):
            setattr(module, name, value)


def _answers(endpoint: str) -> bool:
    from huggingface_hub import get_session

    try:
        get_session().head(endpoint, timeout=SECONDS)
    except Exception:  # of whichever library carries the session: there was no answer
        return False
    return True
