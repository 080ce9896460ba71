"""Export a run for use elsewhere: a transformers folder, or a prompt with its base model, and a model card."""

import copy
import re
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from triptych.contracts import AdaptedModel
from triptych.corpus.sequence import Pair
from triptych.engine.batching import collate
from triptych.engine.forward import target_logits
from triptych.errors import ConfigError, ModelError, ResultsError
from triptych.models.base import BaseModel
from triptych.results import tensor_files
from triptych.results.reading import read_finished
from triptych.run.adapters import PEFT_TENSORS
from triptych.use.model_card import model_card
from triptych.use.summarizers import Trained, TrainedModel, load_summarizer

EXAMPLE = "example.py"
_AGREE = 1e-3  # largest difference of logits between the run and what is exported; merging rounds


def export_run(run: Path, folder: Path, model: str | None = None) -> str:
    """Write what a run trained as a folder that needs no Triptych; it is whole or not there.

    What was put into layers is merged, what was changed is put in, an untied head stays untied. Virtual tokens and a
    prefix cannot be merged: they are written with the name of their base and an example of their use.

    Args:
        run: `OUT/runs/LABEL/SEED`, or an adapter that peft saved.
        folder: a new or an empty folder.
        model: the base model, if it is not available under its recorded name.

    Returns:
        What was written, in a sentence.

    Raises:
        InputError: there is nothing to export, `folder` holds files, or what was trained fits into no plain model.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ResultsError(f"{str(folder)!r} holds files; give a new or an empty folder to export to.")
    row = load_summarizer(run, model, "cpu", precision="fp32")
    if not isinstance(row, TrainedModel):
        raise ConfigError(f"{str(run)!r} is a row without a model: there is nothing to export.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as place:
        made = Path(place) / "export"
        made.mkdir()
        row.base.tokenizer.save_pretrained(made)
        _generation_config(row).save_pretrained(made)
        _write_prompt(row, made) if row.is_prompt else _write_model(row, made)
        (made / EXAMPLE).write_text(_example(row), encoding="utf-8")
        record = read_finished(run) if (run / "record.json").is_file() else None
        (made / "README.md").write_text(model_card(row, record, EXAMPLE), encoding="utf-8")
        try:
            made.rename(folder)
        except OSError as error:
            raise ResultsError(f"{str(folder)!r} cannot be written: {error.strerror}.") from error
    what = (
        "the prompt, to be used with its base model" if row.is_prompt else "a model that transformers loads by itself"
    )
    return f"{folder}: {what}; `python {folder / EXAMPLE} ARTICLE.txt` tries it."


def merge_adapter(adapted: AdaptedModel) -> PreTrainedModel:
    """A plain model of transformers that does what the adapted one does; the adapted one stays as it is."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import ModulesToSaveWrapper

    model = copy.deepcopy(adapted.parts.model)
    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, BaseTunerLayer | ModulesToSaveWrapper)]
    for name, layer in layers:
        parent, _, child = name.rpartition(".")
        if isinstance(layer, BaseTunerLayer):
            layer.merge(safe_merge=True)
            plain = layer.get_base_layer()
        else:
            plain = layer.modules_to_save[layer.active_adapters[0]]
        setattr(model.get_submodule(parent), child, plain)
    return model


def _write_model(row: TrainedModel, made: Path) -> None:
    model = merge_adapter(row.adapted)
    model.generation_config = _generation_config(row)
    model.save_pretrained(made)
    again = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32, trust_remote_code=False).eval()
    ids = np.arange(min(16, row.adapted.parts.vocabulary_size), dtype=np.int32)
    batch = collate([Pair("probe", ids[:8], ids[8:])], row.template)
    with torch.no_grad():  # the run's by the engine, which knows everything that a method may have put in
        plain = again(batch.ids).logits[batch.rows, batch.columns]
        difference = float((plain - target_logits(row.model.on_plain_path(), batch)).abs().max())
    if not difference <= _AGREE:
        raise ModelError(
            f"What {row.kind} trained fits into no plain model of transformers: the logits of what would be exported "
            f"differ by {difference:.2g}. Use the run with `triptych summarize`."
        )


def _write_prompt(row: TrainedModel, made: Path) -> None:
    from peft import PrefixTuningConfig, PromptTuningConfig, TaskType

    adapted = row.adapted
    inside = any(parameter.requires_grad for parameter in adapted.parts.model.parameters())
    if inside or (adapted.virtual_tokens is not None and adapted.prefix is not None):
        raise ModelError(
            f"{row.kind} trained a prompt and something else beside it: no format holds both. Use the run with "
            "`triptych summarize`."
        )
    common: dict[str, Any] = {
        "task_type": TaskType.CAUSAL_LM,
        "num_virtual_tokens": adapted.num_virtual_tokens + adapted.prefix_length,
        "num_transformer_submodules": 1,
        "base_model_name_or_path": base_name(row),
        "inference_mode": True,
    }
    config: Any = None
    if adapted.prefix is not None:
        states = adapted.prefix()
        layers, _, heads, count, width = states.shape
        tensor = states.permute(3, 0, 1, 2, 4).reshape(count, -1)
        config = PrefixTuningConfig(
            token_dim=heads * width,
            num_attention_heads=heads,
            num_layers=layers,
            encoder_hidden_size=heads * width,
            **common,
        )
    else:
        assert adapted.virtual_tokens is not None
        tensor, shape = adapted.virtual_tokens.weight, adapted.parts.model.config.get_text_config()
        if adapted.placement == "before":  # peft knows no other place
            config = PromptTuningConfig(
                token_dim=adapted.parts.hidden_size,
                num_attention_heads=getattr(shape, "num_attention_heads", 1),
                num_layers=shape.num_hidden_layers,
                **common,
            )
    tensor_files.write_tensors(made / PEFT_TENSORS, {"prompt_embeddings": tensor})
    if config is not None:
        config.save_pretrained(str(made))


def base_name(row: Trained) -> str:
    """The base as transformers finds it: a hub name, or the folder it was read from."""
    path = BaseModel.of(row.suite).place.path
    return str(path.resolve()) if path is not None else row.suite.model


def _generation_config(row: TrainedModel) -> GenerationConfig:
    d = row.decoding
    return GenerationConfig(
        do_sample=False,
        num_beams=d.num_beams,
        max_new_tokens=d.max_new_tokens,
        no_repeat_ngram_size=d.no_repeat_ngram_size,
        length_penalty=d.length_penalty,
        early_stopping=False,
        eos_token_id=row.template.eos_id,
        pad_token_id=row.template.eos_id,
    )


def _example(row: TrainedModel) -> str:
    kind = "prefix" if row.adapted.prefix is not None else "prompt" if row.is_prompt else "merged"
    text = (files("triptych") / "assets/export" / f"{kind}.py.txt").read_text(encoding="utf-8")
    values = {
        "document_tokens": row.max_document_tokens,
        "prefix": list(row.template.prefix_ids),
        "separator": list(row.template.separator_ids),
        "before": row.adapted.placement == "before",
        "base": base_name(row),
        "shape": tuple(row.adapted.prefix().shape) if row.adapted.prefix is not None else None,
    }
    return re.sub("@(" + "|".join(values) + ")@", lambda found: ascii(values[found.group(1)]), text)
