"""What is written around a document and its summary: texts of the suite, or the model's own chat template."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from triptych.errors import ModelError, shorten

# What a chat template writes for `strftime_now`: ids must not depend on the day. It is the day that Llama 3's template
# falls back on.
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
_DOCUMENT, _SUMMARY = "TriptychDocument0", "TriptychSummary0"  # in the places of a document and its summary


@dataclass(frozen=True)
class Prompt:
    """The text around a document that asks for its summary.

    Attributes:
        separator: the text after the document; it may name special tokens.
        before: the text before the document; it may name special tokens.
        chat: write `before`, document and `separator` as the user's turn of the model's chat template, and the summary
            as the assistant's.
    """

    separator: str
    before: str = ""
    chat: bool = False


@dataclass(frozen=True)
class Frame:
    """The texts around a document and its summary: `opening + document + middle + summary + closing`.

    Attributes:
        opening: before the document; it may name special tokens.
        middle: between document and summary; it may name special tokens.
        closing: after the summary, by the chat template.
        chat: the chat template wrote these texts, with every special token that belongs there.
    """

    opening: str
    middle: str
    closing: str = ""
    chat: bool = False


def frame_of(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> Frame:
    """The texts that a prompt puts around a document and its summary.

    Args:
        prompt: the text around each document.
        tokenizer: the model's; its chat template is rendered where the prompt asks for it.

    Raises:
        ModelError: the prompt asks for a chat template, and there is none, or it cannot frame a document and a summary.
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
    """Whether a tokenizer comes with a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def _rendered(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> str:
    """The two turns as the chat template writes them, the document and the summary replaced by marks."""
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
    except Exception as error:  # of Jinja, or raised by the template itself
        raise ModelError(
            f"prompt.chat = true, but the tokenizer's chat template fails: {shorten(str(error))}. Set prompt.chat = "
            "false, or give a model whose template takes a user's and an assistant's turn."
        ) from error
