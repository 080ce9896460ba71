"""Access to the Hugging Face Hub: whether it responds, the commit of a revision, and why a name is refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

ANSWER_SECONDS = 5.0  # allowed response time for a slow connection
_WORDS = {"model": ("model", "model_revision", "--model"), "dataset": ("data set", "data_revision", "--data")}


class HubRefusal(Exception):
    """The Hub reports that a name or revision does not exist or may not be read; the message says what to do."""


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """A context in which the Hub's libraries read only their caches if the Hub does not respond in `ANSWER_SECONDS`.

    Otherwise they would retry repeatedly for each file.
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


def find_commit(name: str, revision: str, kind: Literal["model", "dataset"], file: str) -> str:
    """The current commit of a revision or, if the Hub is not asked or does not respond, its commit when cached.

    A branch may move between two downloads, so all files should be read at this commit.

    Args:
        name: the repository's name.
        revision: branch, tag or commit.
        kind: the kind of repository.
        file: a file at the top of the repository that is read later anyway; it may be missing.

    Raises:
        HubRefusal: the repository or revision does not exist, or may not be read.
        LocalEntryNotFoundError: the Hub is not asked or does not respond, and the revision is not cached.
    """
    from huggingface_hub import constants, errors, hf_hub_download
    from huggingface_hub.file_download import repo_folder_name

    what, key, option = _WORDS[kind]
    log_in = "log in with `hf auth login`, or set HF_TOKEN"
    try:
        offline = constants.is_offline_mode()
        return Path(
            hf_hub_download(name, file, revision=revision, repo_type=kind, local_files_only=offline)
        ).parent.name
    except errors.LocalEntryNotFoundError:
        ref = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type=kind), "refs", revision)
        if ref.is_file():
            return ref.read_text().strip()
        if (ref.parents[1] / "snapshots" / revision).is_dir():
            return revision
        raise
    except errors.RemoteEntryNotFoundError as error:
        return error.response.headers[constants.HUGGINGFACE_HEADER_X_REPO_COMMIT]
    except errors.GatedRepoError as error:
        page = f"{constants.ENDPOINT}/{'datasets/' * (kind == 'dataset')}{name}"
        raise HubRefusal(
            f"The {what} {name!r} on the Hub is gated, and you do not have access: ask for it at {page} and {log_in}; "
            f"or give a local copy with {option}."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise HubRefusal(
            f"There is no {what} {name!r} on the Hub that you may read, and no folder of that name here. Check the "
            f"name; if it is private, {log_in}."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubRefusal(
            f"The {what} {name!r} on the Hub has no branch, tag or commit {revision!r}: check {key}."
        ) from error


def why_not_asked(error: Exception) -> str | None:
    """Why nothing was downloaded, if an error means that a file is not cached; otherwise None.

    Args:
        error: the error raised by the Hub's libraries, outside `offline_if_unreachable`.
    """
    from huggingface_hub import constants, errors

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, errors.LocalEntryNotFoundError):
        cause = cause.__cause__
    if cause is None:
        return None
    if constants.is_offline_mode():
        reason = "HF_HUB_OFFLINE is set, so that the Hub is not asked"
    else:
        reason = f"the Hub cannot be reached ({constants.ENDPOINT})"
    return f"{reason}, and the cache {constants.HF_HUB_CACHE} does not hold it"


def is_interruption(error: Exception) -> bool:
    """Whether an error is a failed connection in whichever HTTP library huggingface_hub uses."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return False
    return isinstance(error, ConnectionError) or any(each.__name__ == "TransportError" for each in type(error).__mro__)


def _answers(endpoint: str) -> bool:
    from huggingface_hub import get_session

    try:
        get_session().head(endpoint, timeout=ANSWER_SECONDS)
    except Exception:  # the type depends on the HTTP library; any error means no response
        return False
    return True
