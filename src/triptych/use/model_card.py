"""The model card of an export: what it is, how to serve it, how it was made, its scores and its limits."""

import json
import re
import shlex
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from triptych import __version__
from triptych.contracts import Dataset, EmbeddedModel
from triptych.errors import InputError
from triptych.models.base import BaseModel
from triptych.models.quantization import NONE
from triptych.registry import registered
from triptych.results.records import ROUGE_TYPES, Record
from triptych.storage.files import expand_path
from triptych.text import formats
from triptych.text.markdown import code, plain
from triptych.text.measures import name_of
from triptych.text.synthetic import synthetic_parts, synthetic_sentence
from triptych.use import served
from triptych.use.summarizers import TrainedModel

_DEQUANTIZED = (
    "The run had the matrices of its base model in 4 bits; here they are plain, with the same, dequantized values."
)


def model_card(model: TrainedModel, record: Record | None, measured: served.Measured | str) -> ModelCard:
    """A model card for the Hub, starting with the fields that the Hub reads. It names no folder of this machine.

    Args:
        model: what is exported.
        record: its run's record; None for an adapter that came without one.
        measured: its scores with the settings for other programs, or why there are none.
    """
    name = portable_name(model.suite.model)
    notice = synthetic_sentence(
        synthetic_parts(BaseModel.of(model.suite).is_synthetic, bool(record and record.data and record.data.synthetic))
    )
    parts = [
        f"---\n{_fields(model, record).to_yaml()}\n---",
        f"# {plain(model.label)}: {plain(name)} fine-tuned for summarization",
        _what(model),
        f"**Synthetic.** {notice}" if notice else "",
        _use(model),
        _serving(model),
        _decoding(model, measured),
        _training(model, record),
        _results(record),
        "## Limits\n\nA summary may state what the document does not say, leave out what matters, or stop at "
        f"{model.decoding.max_new_tokens} tokens. It was judged by ROUGE, which counts shared words and does not see "
        "whether a statement is true. What the base model learned from its own data, unwanted patterns included, is "
        "still there.",
        "## License\n\n"
        f"- Base model {code(name)}: its own license applies to these weights. It was not determined: "
        "fill in `license` above.\n"
        f"- Data {code(portable_name(record.data.source) if record and record.data else 'not recorded')}: its own "
        "terms apply; not determined.",
        "## Share\n\nNothing was uploaded when this folder was written. To publish it, after reading the licenses: "
        "`hf upload USER/NAME FOLDER`.",
        f"Written by Triptych {__version__}.",
    ]
    return ModelCard("\n\n".join(part for part in parts if part) + "\n")


def hub_name(name: str, embedded: type[Dataset] | type[EmbeddedModel]) -> str | None:
    """The name of a model or data set if it is on the Hub; None for embedded ones, files and folders.

    Args:
        name: the name in a suite.
        embedded: the contract of the ones embedded in Triptych.
    """
    try:
        validate_repo_id(name)
        return None if name in registered(embedded) or expand_path(name).exists() else name  # type: ignore[type-abstract]
    except (HFValidationError, InputError):
        return None


def portable_name(name: str) -> str:
    """The name of a model or data set to show elsewhere: for a file or folder, the last part of its path."""
    try:
        is_path = expand_path(name).exists() or name.startswith((".", "/", "~")) or name.count("/") > 1
    except InputError:
        is_path = False
    parts = re.split(r"[\\/]", name.rstrip("\\/"))
    return (parts[-1] if parts[-1].strip(".~") else "a local folder") if is_path else name


def _fields(model: TrainedModel, record: Record | None) -> ModelCardData:
    source = record.data.source if record and record.data else None
    dataset = hub_name(source, Dataset) if source is not None and "/" in source else None
    results = None
    if record is not None and record.rouge is not None and source is not None:
        results = [
            EvalResult(
                task_type="summarization",
                dataset_type=dataset or "local",
                dataset_name=portable_name(source),
                dataset_split="test",
                metric_type="rouge",
                metric_name=kind.replace("rouge", "ROUGE-"),
                metric_value=round(getattr(record.rouge, kind), 2),
            )
            for kind in ROUGE_TYPES
        ]
    return ModelCardData(
        license="unknown",
        base_model=hub_name(model.suite.model, EmbeddedModel),
        datasets=[dataset] if dataset else None,
        metrics=["rouge"],
        library_name="peft" if model.is_prompt else "transformers",
        pipeline_tag="text-generation",
        tags=["summarization", "triptych"],
        model_name=f"{model.label}: {portable_name(model.suite.model)}" if results else None,
        eval_results=results,
    )


def _what(model: TrainedModel) -> str:
    adapted = model.adapted
    if adapted.prefix is not None:
        what = (
            f"{adapted.prefix_length} learned keys and values in every layer ({plain(model.kind)}), which come before "
            "the document;"
        )
    elif model.is_prompt:
        what = (
            f"{formats.number_of(adapted.num_virtual_tokens, 'virtual token')} ({plain(model.kind)}) "
            f"to be put {adapted.placement} the document;"
        )
    else:
        stored = "" if model.base.quantization == NONE else f" {_DEQUANTIZED}"
        return (
            f"A complete causal language model of transformers; what {code(model.kind)} trained is merged into it."
            f"{stored}"
        )
    name = code(portable_name(model.suite.model))
    if not model.base.is_published:
        stored = "" if model.base.quantization == NONE else f" {_DEQUANTIZED}"
        return f"{what} they work only with the base model {name}, which is in `base/`.{stored}"
    return f"{what} they work only with the base model {name}, which is not in this folder."


def _use(model: TrainedModel) -> str:
    return (
        "## Use\n\n```\npython example.py ARTICLE.txt\n```\n\n"
        f"The document's first {model.max_document_tokens:,} tokens are read. {_asked(model)} `example.py` hands them "
        "to `generate` as embeddings: given as token ids, the ban on repeated phrases (`no_repeat_ngram_size`) would "
        "also forbid phrases of the document. `from example import summarize` gives the same summaries in a program."
    )


def _asked(model: TrainedModel) -> str:
    """Describe the text around the document."""
    prompt = model.prompt
    before, after = (code(json.dumps(text, ensure_ascii=False)) for text in (prompt.before, prompt.separator))
    parts = [f"the text {before} before it" if prompt.before else "", f"{after} after it" if prompt.separator else ""]
    texts = " and ".join(part for part in parts if part) or "nothing around it"
    if prompt.chat:
        return f"With {texts}, it is the user's turn of the model's chat template; the summary is the assistant's."
    return f"It is read with {texts}."


def _serving(model: TrainedModel) -> str:
    lines = [
        "## Serve",
        "Over HTTP with FastAPI, with the run's own decoding (`pip install fastapi uvicorn`):",
        "```\nuvicorn --app-dir . serve:app\n"
        "curl localhost:8000/summarize -H 'Content-Type: application/json' -d '{\"text\": \"ARTICLE\"}'\n```",
    ]
    if model.is_prompt:
        lines.append("Servers such as vLLM and Ollama load only complete models and cannot serve this.")
        return "\n\n".join(lines)
    prompt = model.prompt
    asked: dict[str, Any] = {"prompt": f"{prompt.before}ARTICLE{prompt.separator}"}
    before = f"{prompt.before!a} + " if prompt.before else ""
    text, place, more = f"{before}article + {prompt.separator!a}", "completions", ", add_special_tokens=True"
    what = "with the texts around it"
    if prompt.chat:
        asked = {"messages": [{"role": "user", "content": asked["prompt"]}]}
        text, place, more = f'[{{"role": "user", "content": {text}}}]', "chat/completions", ""
        what = "with the texts around it as the user's turn of a chat"
    body = json.dumps({"model": ".", **asked, "max_tokens": model.decoding.max_new_tokens, "temperature": 0})
    lines += [
        f"Any other program gets the article, cut to its first {model.max_document_tokens:,} tokens, {what}, and "
        "continues greedily. It must not ban or penalize repeated words: most programs count those "
        "of the article as well. With `transformers`, whose `pipeline` reads `generation_config.json`:",
        _fenced(
            "from transformers import pipeline\n\n"
            'summarizer = pipeline("text-generation", model=".")\n'
            f"prompt = {text}\n"
            f"found = summarizer(prompt{more}, return_full_text=False)\n"
            'print(found[0]["generated_text"].strip())'
        ),
        "With vLLM, which samples unless told otherwise:",
        _fenced(
            "vllm serve . --override-generation-config '{\"temperature\": 0}'\n"
            f"curl localhost:8000/v1/{place} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
        ),
        "A list of token ids, as returned by `token_ids` in `example.py`, may replace the prompt's text.",
        "With Ollama, after conversion by llama.cpp (`Modelfile` has the prompt and the settings):",
        _fenced(
            "python llama.cpp/convert_hf_to_gguf.py . --outfile model.gguf\n"
            "ollama create summarizer -f Modelfile\n"
            'ollama run summarizer "$(cat ARTICLE.txt)"'
        ),
    ]
    return "\n\n".join(lines)


def _fenced(text: str) -> str:
    """A code block whose content cannot end it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def _decoding(model: TrainedModel, measured: served.Measured | str) -> str:
    if model.is_prompt:
        return ""
    plan = model.decoding
    beams = formats.number_of(plan.num_beams, "beam") if plan.num_beams > 1 else "greedy"
    ban = f", no {plan.no_repeat_ngram_size} tokens twice in a summary" if plan.no_repeat_ngram_size else ""
    described = {
        served.RUN_SETTINGS: f"the run's: {beams}{ban}; the document as embeddings",
        served.GREEDY_SETTINGS: "greedy; the document as text or token ids",
        served.SAMPLING_SETTINGS: f"sampling at temperature {served.TEMPERATURE} with top-p {served.TOP_P}; as text "
        "or token ids",
    }
    head = "## Decoding\n\n"
    if isinstance(measured, str):
        lines = "\n".join(f"- `{file}`: {what}" for file, what in described.items())
        return f"{head}{lines}\n\nHow they differ in quality was not measured: {plain(measured)}."
    rows = "\n".join(_decoding_row(described[each.settings], each) for each in measured.scores)
    odd = measured.documents - measured.same_tokens
    tokens = (
        "Given as one text, the article and the text around it have the tokens of training in each of these documents."
        if not odd
        else f"Given as one text, the article and the text around it have other tokens than in training in {odd:,} of "
        "these documents: if possible, send token ids."
    )
    return (
        f"{head}Means over {formats.number_of(measured.documents, 'test document')}, spread evenly over the test "
        "split; the summaries of the last two were written by this folder's model, loaded by transformers in fp32.\n\n"
        "| settings | file | R-1 | R-2 | R-Lsum | R-1 minus the run's [95% interval] | words | repeated trigrams | "
        f"cut at {plan.max_new_tokens} tokens |\n|---|---|---:|---:|---:|---:|---:|---:|---:|\n{rows}\n\n{tokens}"
    )


def _decoding_row(what: str, each: served.SettingsScores) -> str:
    gain = formats.DASH
    if each.same:
        gain = "the same summaries"
    elif each.gain is not None:
        mean, low, high = each.gain
        gain = formats.signed(mean) + (f" {formats.interval(low, high)}" if low is not None else "")
    cells = [
        what,
        f"`{each.settings}`",
        *(formats.rouge_score(each.rouge[kind]) for kind in ("rouge1", "rouge2", "rougeLsum")),
        gain,
        formats.word_count(each.words),
        formats.share(each.repeated_trigrams),
        formats.share(each.at_cap),
    ]
    return f"| {' | '.join(cells)} |"


def _training(model: TrainedModel, record: Record | None) -> str:
    if record is None or record.data is None:
        return "## Training\n\nNot recorded: the adapter came without a run."
    counts = record.data.splits
    lines = [
        f"- Base: {code(portable_name(model.suite.model))}, revision {code(model.suite.model_revision)}, "
        f"fingerprint {code(model.base.fingerprint[:16])}{_stored(model)}",
        f"- Method: {code(model.kind)}, options {code(json.dumps(record.options, ensure_ascii=False))}, seed "
        f"{record.seed}",
        f"- Data: {code(portable_name(record.data.source))}, fingerprint {code(record.data.fingerprint[:16])}: "
        f"{counts['train'].used:,} "
        f"documents to train on, {counts['validation'].used:,} to validate, {counts['test'].used:,} to test",
    ]
    if record.training:
        lines.append(
            f"- Training: {record.training.epochs:.3g} {'epoch' if record.training.epochs == 1 else 'epochs'}, "
            f"{formats.number_of(record.training.steps, 'step')}"
        )
    if record.parameters:
        lines.append(
            f"- Parameters: {record.parameters.num_trainable_parameters:,} trained, "
            f"{record.parameters.num_added_parameters:,} added"
        )
    return "## Training\n\n" + "\n".join(lines)


def _stored(model: TrainedModel) -> str:
    """How the base model was stored during training, if it was quantized."""
    kind = model.base.quantization
    return "" if kind == NONE else f", quantized (model_quantization = {code(kind)})"


def _results(record: Record | None) -> str:
    if record is None or record.rouge is None or record.data is None:
        return "## Results\n\nNot measured."
    lines = [f"| {name_of(name)} | {getattr(record.rouge, name):.2f} |" for name in ROUGE_TYPES]
    if record.loss.test is not None:
        lines.append(f"| Loss, nats per target token | {record.loss.test:.4f} |")
    documents = formats.number_of(record.data.splits["test"].used, "test document")
    return (
        f"## Results\n\nOn {documents}, one seed, ROUGE F1 in 0-100.\n\n"
        "| Metric | Value |\n|---|---:|\n" + "\n".join(lines) + f"\n\nSignature: {code(record.rouge.signature)}"
    )
