"""Silence progress bars and warnings of libraries: Triptych reports what matters itself."""

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def quiet_libraries() -> None:
    """Silence the progress bars and warnings of libraries for the rest of this process."""
    import transformers
    from huggingface_hub import utils as hub

    hub.logging.set_verbosity_error()  # it would warn for each download attempt
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it if it is installed
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()  # also for huggingface_hub
    # the reader of GGUF files uses tqdm directly; this makes transformers' switch apply to it too
    _gguf_reader().tqdm = transformers.logging.tqdm


@contextmanager
def quietly() -> Iterator[None]:
    """A context and decorator, for public functions, in which progress bars and warnings of libraries are silenced."""
    import datasets
    import transformers
    from huggingface_hub import utils as hub

    reader, theirs, of_bitsandbytes = _gguf_reader(), transformers.logging, logging.getLogger("bitsandbytes")
    before = theirs.get_verbosity(), theirs.is_progress_bar_enabled(), reader.tqdm, of_bitsandbytes.level
    of_hub, of_datasets = not hub.are_progress_bars_disabled(), datasets.is_progress_bar_enabled()
    verbosities = hub.logging.get_verbosity(), datasets.logging.get_verbosity()
    try:
        quiet_libraries()
        datasets.disable_progress_bars()
        datasets.logging.set_verbosity_error()
        yield
    finally:
        verbosity, bars, reader.tqdm, level = before
        of_bitsandbytes.setLevel(level)
        theirs.set_verbosity(verbosity)
        for library, own in zip((hub, datasets), verbosities, strict=True):
            library.logging.set_verbosity(own)
        if bars:
            theirs.enable_progress_bar()
        (hub.enable_progress_bars if of_hub else hub.disable_progress_bars)()
        if of_datasets:
            datasets.enable_progress_bars()


def _gguf_reader() -> Any:
    return importlib.import_module("transformers.modeling_gguf_pytorch_utils")
