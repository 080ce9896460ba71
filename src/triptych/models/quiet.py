"""No progress bars and warnings of libraries: what is worth saying, Triptych says itself."""

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def quiet_libraries() -> None:
    """Silence the progress bars and warnings of libraries, for as long as this process lasts."""
    import transformers
    from huggingface_hub import utils as hub

    hub.logging.set_verbosity_error()  # of each attempt at a download it would warn
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # which peft imports where it is installed
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()  # that of huggingface_hub as well
    # the reader of GGUF files asks tqdm itself; transformers' own switch holds for its bar too
    _gguf_reader().tqdm = transformers.logging.tqdm


@contextmanager
def quietly() -> Iterator[None]:
    """Silence the progress bars and warnings of libraries inside, for functions that others call; also a decorator."""
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
