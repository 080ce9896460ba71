"""The text around a document and its summary: the suite's texts or the model's chat template."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from triptych.errors import ModelError, shorten

# The fixed date for `strftime_now` in chat templates: ids must not depend on the day. It is the fallback date of Llama
# 3's template.
_DATE = {
    "%Y": "2024",
    "%y": "24",
    "%m": "07",
    "%d": "26",
    "%-d": "26",
    "%B": "July",
    "%b": "Jul",
    "%A": "Friday",
    "%a": "Fri",
    "%H": "00",
    "%M": "00",
    "%S": "00",
}
_FIXED_DATE = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f" | replace('{code}', '{text}')" for code, text in _DATE.items())
    + " }}{% endmacro %}{{ '' }}"
)
_DOCUMENT, _SUMMARY = "TriptychDocument0", "TriptychSummary0"  # placeholders for a document and its summary


@dataclass(frozen=True)
class Prompt:
    """The text around a document that prompts for its summary.

    Attributes:
        separator: the text after the document; it may contain special tokens.
        before: the text before the document; it may contain special tokens.
        chat: render `before`, document and `separator` as the user's turn of the model's chat template, and the summary
            as the assistant's.
    """

    separator: str
    before: str = ""
    chat: bool = False


@dataclass(frozen=True)
class Frame:
    """The texts around a document and its summary: `opening + document + middle + summary + closing`.

    Attributes:
        opening: the text before the document; it may contain special tokens.
        middle: the text between document and summary; it may contain special tokens.
        closing: the text after the summary, from the chat template.
        chat: whether the chat template rendered these texts, with all their special tokens.
    """

    opening: str
    middle: str
    closing: str = ""
    chat: bool = False


def frame_of(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> Frame:
    """The texts around a document and its summary for a prompt.

    Args:
        prompt: the text around each document.
        tokenizer: the model's tokenizer; its chat template is rendered if the prompt uses it.

    Raises:
        ModelError: the prompt uses a chat template, but there is none or it cannot frame a document and a summary.
    """
    if not prompt.chat:
        return Frame(prompt.before, prompt.separator)
    text = _rendered(prompt, tokenizer)
    if text.count(_DOCUMENT) != 1 or text.count(_SUMMARY) != 1 or text.index(_SUMMARY) < text.index(_DOCUMENT):
        raise ModelError(
            "prompt.chat = true, but the tokenizer's chat template does not write the user's and the assistant's text "
            "once each, in this order. Set prompt.chat = false, or give a model with another template."
        )
    opening, rest = text.split(_DOCUMENT)
    middle, closing = rest.split(_SUMMARY)
    return Frame(opening, middle, closing, chat=True)


def has_chat_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer has a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def _rendered(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> str:
    """Both turns as rendered by the chat template, with placeholders for document and summary."""
    if not has_chat_template(tokenizer):
        raise ModelError(
            "prompt.chat = true, but the tokenizer has no chat template. Set prompt.chat = false, or give a model that "
            "was tuned to follow instructions: the template is in its tokenizer_config.json or chat_template.jinja."
        )
    turns = [
        {"role": "user", "content": f"{prompt.before}{_DOCUMENT}{prompt.separator}"},
        {"role": "assistant", "content": _SUMMARY},
    ]
    try:
        template = tokenizer.get_chat_template()
        fixed = _FIXED_DATE if "strftime_now" in template else ""
        return str(tokenizer.apply_chat_template(turns, chat_template=fixed + template, tokenize=False))
    except Exception as error:  # from Jinja, or raised by the template itself
        raise ModelError(
            f"prompt.chat = true, but the tokenizer's chat template fails: {shorten(str(error))}. Set prompt.chat = "
            "false, or give a model whose template takes a user's and an assistant's turn."
        ) from error
