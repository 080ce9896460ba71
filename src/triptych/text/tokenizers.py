"""The stemmed words that ROUGE counts: tokenizers for each language, with the interface of rouge_score."""

from functools import lru_cache

from nltk.stem import PorterStemmer, SnowballStemmer
from rouge_score import tokenize
from rouge_score.tokenizers import Tokenizer

from triptych.text import languages, words

LEAST_STEMMED = 4  # characters: rouge_score does not stem shorter words


def tokenizer(language: str) -> Tokenizer:
    """The tokenizer for a language, with the interface of rouge_score.

    Args:
        language: one of `languages.LANGUAGES` except "auto".
    """
    return EnglishTokenizer() if language == languages.ENGLISH else UnicodeTokenizer(language)


class EnglishTokenizer(Tokenizer):
    """The words of rouge_score: a-z and 0-9, Porter-stemmed, with cached stems."""

    def __init__(self) -> None:
        self.stem = lru_cache(maxsize=2**16)(PorterStemmer().stem)

    def tokenize(self, text: str) -> list[str]:
        """The words in order."""
        return tokenize.tokenize(text, self)


class UnicodeTokenizer(Tokenizer):
    """Words in any script, stemmed if the language has a Snowball stemmer.

    Args:
        language: one of `languages.LANGUAGES`.
    """

    def __init__(self, language: str):
        self._dotless_i = language in languages.DOTLESS_I
        self._stem = lru_cache(maxsize=2**16)(SnowballStemmer(language).stem) if language in languages.STEMMED else None

    def tokenize(self, text: str) -> list[str]:
        """The words in order; as in rouge_score, words under four characters are not stemmed."""
        found = words.split_words(text, self._dotless_i)
        if self._stem is None:
            return found
        return [self._stem(word) if len(word) >= LEAST_STEMMED else word for word in found]
