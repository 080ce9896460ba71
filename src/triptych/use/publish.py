"""Upload an export to the Hugging Face Hub, with the user's own token and only on request."""

from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from triptych.errors import ConfigError, InputError, ResultsError


def check_destination(name: str) -> None:
    """Check before the export that an upload can be tried: the name is valid and there is a token.

    Args:
        name: USER/NAME, or NAME for the token's own user.

    Raises:
        ConfigError: the name is invalid or there is no token. The Hub is not contacted.
    """
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise ConfigError(f"{name!r} cannot be the name of a model on the Hub: give USER/NAME.") from None
    if not get_token():
        raise ConfigError("There is no token for the Hub: log in with `hf auth login`, or set HF_TOKEN.")


def upload(folder: Path, name: str, public: bool = False) -> str:
    """Upload a folder to the Hub as a model, which is created if missing.

    Args:
        folder: an export.
        name: USER/NAME, or NAME for the token's own user.
        public: whether anyone may see the model; if not, an existing public model is refused.

    Returns:
        The address of the model.

    Raises:
        ConfigError: there is no token, or the name is invalid.
        ResultsError: the Hub cannot be reached or refuses; the folder stays as it is.
    """
    check_destination(name)
    hub = HfApi()
    try:
        model = hub.create_repo(name, private=not public, exist_ok=True).repo_id
        if not public and not hub.model_info(model).private:
            raise ConfigError(f"The model {model!r} on the Hub is public. Give --public to upload to it anyway.")
        hub.upload_folder(repo_id=model, folder_path=folder, commit_message="Export of Triptych")
    except InputError:
        raise
    except Exception as error:  # the type depends on huggingface_hub's HTTP library
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ResultsError(
            f"{str(folder)!r} is complete, but was not uploaded to {name!r}: {reason.rstrip('.')}. Try again with: "
            f"hf upload {name} {folder}"
        ) from error
    return f"{hub.endpoint}/{model}"
