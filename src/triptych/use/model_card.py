"""The model card of an export: what it is, how it was made, how well it does, and what its limits are."""

import json

from huggingface_hub import ModelCardData

from triptych import __version__
from triptych.contracts import Dataset
from triptych.models.base import BaseModel
from triptych.registry import registered
from triptych.results.records import ROUGE_TYPES, Record
from triptych.text.markdown import code, plain
from triptych.use.summarizers import TrainedModel


def model_card(model: TrainedModel, record: Record | None, example: str) -> str:
    """A card in Markdown; at its top are the fields that the Hub reads.

    Args:
        model: what is exported.
        record: its run's record; None for an adapter that came without one.
        example: name of the example in the same folder.
    """
    synthetic = BaseModel.of(model.suite).is_synthetic or bool(record and record.data and record.data.synthetic)
    parts = [
        _fields(model, record),
        f"# {plain(model.label)}: {plain(model.suite.model)} fine-tuned for summarization",
        _what(model),
        "**Synthetic.** The base model or the documents are made up for a demonstration: the summaries and figures "
        "here show that the job works, and say nothing about real text."
        if synthetic
        else "",
        "## Use\n\n"
        f"```\npython {example} ARTICLE.txt\n```\n\n"
        f"The document's first {model.max_document_tokens:,} tokens are read, then comes the separator "
        f"{code(json.dumps(model.suite.separator, ensure_ascii=False))}. `{example}` hands them to `generate` as "
        "embeddings: given as token ids, the ban on repeated phrases (`no_repeat_ngram_size`) would also forbid "
        "phrases of the document.",
        _training(model, record),
        _results(record),
        "## Limits\n\nA summary may state what the document does not say, leave out what matters, or stop at "
        f"{model.decoding.max_new_tokens} tokens. It was judged by ROUGE, which counts shared words and does not see "
        "whether a statement is true. What the base model learned from its own data, unwanted patterns included, is "
        "still there.",
        "## Licence\n\n"
        f"- Base model {code(model.suite.model)}: its own licence applies to these weights. It was not determined: "
        "fill in `license` above.\n"
        f"- Data {code(record.data.source if record and record.data else 'not recorded')}: its own terms apply; not "
        "determined.",
        "## Share\n\nNothing was uploaded. To publish this folder: `hf upload USER/NAME FOLDER`, after reading the "
        "licences.",
        f"Written by Triptych {__version__}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _fields(model: TrainedModel, record: Record | None) -> str:
    source = record.data.source if record and record.data else None
    on_a_hub = source is not None and source.count("/") == 1 and not source.startswith((".", "/", "~"))
    datasets = [source] if source is not None and on_a_hub and source not in registered(Dataset) else None
    fields = ModelCardData(
        license="unknown",
        base_model=model.suite.model,
        datasets=datasets,
        metrics=["rouge"],
        library_name="peft" if model.is_prompt else "transformers",
        pipeline_tag="text-generation",
        tags=["summarization", "triptych"],
    )
    return f"---\n{fields.to_yaml()}\n---"


def _what(model: TrainedModel) -> str:
    adapted = model.adapted
    if adapted.prefix is not None:
        what = (
            f"{adapted.prefix_length} learned keys and values in every layer ({plain(model.kind)}), which come before "
            "the document;"
        )
    elif model.is_prompt:
        what = (
            f"{adapted.num_virtual_tokens} virtual tokens ({plain(model.kind)}) "
            f"to be put {adapted.placement} the document;"
        )
    else:
        return f"A complete causal language model of transformers; what {code(model.kind)} trained is merged into it."
    return f"{what} they work with the base model {code(model.suite.model)} alone, which is not in this folder."


def _training(model: TrainedModel, record: Record | None) -> str:
    if record is None or record.data is None:
        return "## Training\n\nNot recorded: the adapter came without a run."
    counts = record.data.splits
    lines = [
        f"- Base: {code(model.suite.model)}, revision {code(model.suite.model_revision)}, "
        f"fingerprint {code(model.base.fingerprint[:16])}",
        f"- Method: {code(model.kind)}, options {code(json.dumps(record.options, ensure_ascii=False))}, seed "
        f"{record.seed}",
        f"- Data: {code(record.data.source)}, fingerprint {code(record.data.fingerprint[:16])}: "
        f"{counts['train'].used:,} "
        f"documents to train on, {counts['validation'].used:,} to validate, {counts['test'].used:,} to test",
    ]
    if record.training:
        lines.append(f"- Training: {record.training.epochs} epochs, {record.training.steps:,} steps")
    if record.parameters:
        lines.append(
            f"- Parameters: {record.parameters.num_trainable_parameters:,} trained, "
            f"{record.parameters.num_added_parameters:,} added"
        )
    return "## Training\n\n" + "\n".join(lines)


def _results(record: Record | None) -> str:
    if record is None or record.rouge is None or record.data is None:
        return "## Results\n\nNot measured."
    lines = [f"| {name.replace('rouge', 'ROUGE-')} | {getattr(record.rouge, name):.2f} |" for name in ROUGE_TYPES]
    if record.loss.test is not None:
        lines.append(f"| Loss, nats per target token | {record.loss.test:.4f} |")
    return (
        f"## Results\n\nOn {record.data.splits['test'].used:,} test documents, one seed, ROUGE F1 in 0-100.\n\n"
        "| Metric | Value |\n|---|---:|\n" + "\n".join(lines) + f"\n\nSignature: {code(record.rouge.signature)}"
    )
