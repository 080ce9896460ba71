"""SHA-256 fingerprints of a local model's files and of a tokenizer, to detect changes in either."""

import hashlib
import json
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from triptych.models.place import Place
from triptych.models.weights import weight_files

# Typographic quotes, double spaces, a dash, accents, a currency sign, a tab, a no-break space, an emoji: things that
# normalizers and splitters treat differently.
TOKENIZER_PROBE = (
    "Don\u2019t  stop\u2014it\u2019s 3.5 million:\nNa\u00efve caf\u00e9s re-open, \u20ac12 each.\tA\u00a0B \U0001f642"
)


def files_fingerprint(place: Place) -> str:
    """SHA-256 of a local model's configuration and of every file with its weights.

    The version of transformers that wrote the configuration does not count.
    """
    digest = hashlib.sha256()
    if place.gguf is not None:
        files = [place.gguf]
    else:
        folder = Path(place.where)
        config = json.loads((folder / "config.json").read_bytes())
        counted = {key: value for key, value in config.items() if key != "transformers_version"}
        digest.update(json.dumps(counted, sort_keys=True).encode())
        index, files = weight_files(folder)
        if index:
            digest.update(json.dumps(index, sort_keys=True).encode())
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of the vocabulary, the special tokens and the ids of a text on which tokenizers differ.

    It is stable across releases of the tokenizers package, unlike a hash of the package's own serialization.
    """
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    state = [sorted(tokenizer.get_vocab().items()), special, tokenizer(TOKENIZER_PROBE, verbose=False)["input_ids"]]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
