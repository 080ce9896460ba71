"""Hints for keys named as in other tools: what names from transformers, peft and trl are called here."""

from typing import NamedTuple


class Meant(NamedTuple):
    """What another tool's name means here.

    Attributes:
        keys: the corresponding keys of a suite file; LABEL is a method's label.
        remark: how they differ, as the end of a sentence; may be empty.
    """

    keys: tuple[str, ...]
    remark: str = ""


_RATE = Meant(
    ("method.LABEL.learning_rate", "method.LABEL.learning_rates"),
    "each method has its own, such as method.lora.learning_rate=0.001; a search tries those of learning_rates, unless "
    "search.trials is 0",
)
_STEP = Meant(
    ("training.global_batch_size", "training.micro_batch_size"),
    "documents per optimizer step and per forward pass; the number of passes per step follows from the two and the "
    "number of devices",
)
_MICRO = Meant(("training.micro_batch_size",), "documents per forward pass on one device")
_EPOCHS = Meant(("training.max_epochs",))
_LENGTH = Meant(
    ("limits.document_tokens", "limits.summary_tokens"), "the document and the summary each have their own limit"
)
_TARGET = Meant(("limits.summary_tokens", "decoding.max_new_tokens"), "for references and for generated summaries")
_PRECISION = Meant(("training.precision",), '"fp32", "bf16" or "fp16"')
_MODEL = Meant(("model",))
_QUANTIZED = Meant(("model_quantization",), '"nf4" or "none", the same for every method')
_SHARDED = Meant(("engine.sharding",), '"full" or "none"; "full" shards the model over the processes of torchrun')
_DATA = Meant(("data",), "a folder, a file or a name on the Hub")

FOREIGN_NAMES = {
    "learning_rate": _RATE,
    "lr": _RATE,
    "learning_rates": _RATE,
    "r": Meant(("method.LABEL.rank",)),
    "lora_r": Meant(("method.LABEL.rank",)),
    "lora_rank": Meant(("method.LABEL.rank",)),
    "lora_alpha": Meant(("method.LABEL.alpha",)),
    "lora_dropout": Meant(("method.LABEL.dropout",)),
    "lora_target": Meant(("method.LABEL.target_modules",)),
    "lora_target_modules": Meant(("method.LABEL.target_modules",)),
    "weight_decay": Meant(("method.LABEL.weight_decay",), "each method has its own"),
    "gradient_accumulation_steps": _STEP,
    "train_batch_size": _STEP,
    "batch_size": _STEP,
    "per_device_train_batch_size": _MICRO,
    "per_device_batch_size": _MICRO,
    "per_device_eval_batch_size": Meant(
        ("training.micro_batch_size", "decoding.batch_size"), "for losses and for summaries"
    ),
    "num_train_epochs": _EPOCHS,
    "num_epochs": _EPOCHS,
    "epochs": _EPOCHS,
    "max_steps": Meant(
        ("training.max_epochs", "limits.train_documents"),
        "budgets are counted in documents, and a step reads training.global_batch_size of them",
    ),
    "max_length": _LENGTH,
    "max_seq_length": _LENGTH,
    "max_seq_len": _LENGTH,
    "sequence_len": _LENGTH,
    "model_max_length": _LENGTH,
    "cutoff_len": _LENGTH,
    "max_source_length": Meant(("limits.document_tokens",)),
    "max_input_length": Meant(("limits.document_tokens",)),
    "max_target_length": _TARGET,
    "val_max_target_length": _TARGET,
    "generation_max_length": Meant(("decoding.max_new_tokens",)),
    "generation_num_beams": Meant(("decoding.num_beams",)),
    "beams": Meant(("decoding.num_beams",)),
    "warmup_ratio": Meant(("training.warmup_fraction",)),
    "warmup_steps": Meant(("training.warmup_fraction",), "a fraction of all steps, not their number"),
    "lr_scheduler_type": Meant(("training.schedule",)),
    "lr_scheduler": Meant(("training.schedule",)),
    "optim": Meant(("training.optimizer",)),
    "gradient_clip_val": Meant(("training.max_grad_norm",)),
    "early_stopping_patience": Meant(("training.patience",)),
    "bf16": _PRECISION,
    "fp16": _PRECISION,
    "dtype": _PRECISION,
    "torch_dtype": _PRECISION,
    "mixed_precision": _PRECISION,
    "seed": Meant(("seeds",), "a list: every method that trains runs once for each"),
    "random_state": Meant(("seeds",), "a list: every method that trains runs once for each"),
    "model_name_or_path": _MODEL,
    "model_name": _MODEL,
    "base_model": _MODEL,
    "pretrained_model_name_or_path": _MODEL,
    "load_in_4bit": _QUANTIZED,
    "bnb_4bit_quant_type": _QUANTIZED,
    "quantization_bit": _QUANTIZED,
    "quantization_config": _QUANTIZED,
    "fsdp": _SHARDED,
    "fsdp_config": _SHARDED,
    "deepspeed": _SHARDED,
    "dataset": _DATA,
    "datasets": _DATA,
    "dataset_name": _DATA,
    "train_file": _DATA,
    "dataset_config": Meant(("data_config",)),
    "dataset_config_name": Meant(("data_config",)),
    "text_column": Meant(("columns.document",)),
    "summary_column": Meant(("columns.summary",)),
    "max_samples": Meant(("limits.train_documents",)),
    "max_train_samples": Meant(("limits.train_documents",)),
    "max_eval_samples": Meant(("limits.validation_documents",)),
    "max_predict_samples": Meant(("limits.test_documents",)),
    "test_size": Meant(("split.fractions",), "for training, validation and test"),
    "val_size": Meant(("split.fractions",), "for training, validation and test"),
    "report_to": Meant(("tracking.with",)),
}


def meant_by(name: str, section: str = "") -> str:
    """A hint for another tool's name, with a leading space: ` In Triptych it is 'x'.`; empty for unknown names.

    Args:
        name: the last part of an unknown key.
        section: the section it was found in; if that is a method's, the hint uses its label.
    """
    meant = FOREIGN_NAMES.get(name.replace("-", "_").lower())
    if meant is None:
        return ""
    row = section if section.startswith("method.") else "method.LABEL"
    keys = " and ".join(repr(key.replace("method.LABEL", row)) for key in meant.keys)
    return f" In Triptych it is {keys}{f': {meant.remark}' if meant.remark else ''}."
