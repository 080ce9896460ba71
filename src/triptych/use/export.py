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
    """Write what a run trained as a folder that works without Triptych; the folder is complete or absent.

    Adapters in layers are merged, changed weights are included, an untied head stays untied. Virtual tokens and a
    prefix cannot be merged: they are written with the name of their base, and with an example of their use.

    Args:
        run: `OUT/runs/LABEL/SEED`, or an adapter that peft saved.
        folder: a new or an empty folder.
        model: the base model, where it is not available under its recorded name.

    Returns:
        What was written, in a sentence.

    Raises:
        InputError: there is nothing to export, `folder` holds files, or no plain model can hold what was trained.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ResultsError(f"{str(folder)!r} holds files; give a new or an empty folder to export to.")
    trained = load_summarizer(run, model, "cpu", precision="fp32")
    if not isinstance(trained, TrainedModel):
        raise ConfigError(f"{str(run)!r} is a run without a model: there is nothing to export.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as place:
        made = Path(place) / "export"
        made.mkdir()
        trained.base.tokenizer.save_pretrained(made)
        _generation_config(trained).save_pretrained(made)
        _write_prompt(trained, made) if trained.is_prompt else _write_model(trained, made)
        (made / EXAMPLE).write_text(_example(trained), encoding="utf-8")
        record = read_finished(run) if (run / "record.json").is_file() else None
        (made / "README.md").write_text(model_card(trained, record, EXAMPLE), encoding="utf-8")
        try:
            made.rename(folder)
        except OSError as error:
            raise ResultsError(f"{str(folder)!r} cannot be written: {error.strerror}.") from error
    what = (
        "the prompt, to be used with its base model"
        if trained.is_prompt
        else "a model that transformers loads by itself"
    )
    return f"{folder}: {what}; `python {folder / EXAMPLE} ARTICLE.txt` tries it."


def merge_adapter(adapted: AdaptedModel) -> PreTrainedModel:
    """A plain model of transformers that computes what the adapted one does, which is left unchanged."""
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


def _write_model(trained: TrainedModel, made: Path) -> None:
    model = merge_adapter(trained.adapted)
    model.generation_config = _generation_config(trained)
    model.save_pretrained(made)
    again = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32, trust_remote_code=False).eval()
    ids = np.arange(min(16, trained.adapted.parts.vocabulary_size), dtype=np.int32)
    batch = collate([Pair("probe", ids[:8], ids[8:])], trained.template)
    with torch.no_grad():  # the run's logits by the engine, which supports everything that a method may train
        plain = again(batch.ids).logits[batch.rows, batch.columns]
        difference = float((plain - target_logits(trained.model.on_plain_path(), batch)).abs().max())
    if not difference <= _AGREE:
        raise ModelError(
            f"What {trained.kind} trained fits into no plain model of transformers: the logits of what would be "
            f"exported differ by {difference:.2g}. Use the run with `triptych summarize`."
        )


def _write_prompt(trained: TrainedModel, made: Path) -> None:
    from peft import PrefixTuningConfig, PromptTuningConfig, TaskType

    adapted = trained.adapted
    inside = any(parameter.requires_grad for parameter in adapted.parts.model.parameters())
    if inside or (adapted.virtual_tokens is not None and adapted.prefix is not None):
        raise ModelError(
            f"{trained.kind} trained a prompt and something else as well: no format holds both. Use the run with "
            "`triptych summarize`."
        )
    common: dict[str, Any] = {
        "task_type": TaskType.CAUSAL_LM,
        "num_virtual_tokens": adapted.num_virtual_tokens + adapted.prefix_length,
        "num_transformer_submodules": 1,
        "base_model_name_or_path": base_name(trained),
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


def base_name(trained: Trained) -> str:
    """The base model as transformers finds it: a name on the Hub, or the folder that it was read from."""
    path = BaseModel.of(trained.suite).place.path
    return str(path.resolve()) if path is not None else trained.suite.model


def _generation_config(trained: TrainedModel) -> GenerationConfig:
    d = trained.decoding
    return GenerationConfig(
        do_sample=False,
        num_beams=d.num_beams,
        max_new_tokens=d.max_new_tokens,
        no_repeat_ngram_size=d.no_repeat_ngram_size,
        length_penalty=d.length_penalty,
        early_stopping=False,
        eos_token_id=trained.template.eos_id,
        pad_token_id=trained.template.eos_id,
    )


def _example(trained: TrainedModel) -> str:
    kind = "prefix" if trained.adapted.prefix is not None else "prompt" if trained.is_prompt else "merged"
    text = (files("triptych") / "assets/export" / f"{kind}.py.txt").read_text(encoding="utf-8")
    values = {
        "document_tokens": trained.max_document_tokens,
        "prefix": list(trained.template.prefix_ids),
        "separator": list(trained.template.separator_ids),
        "before": trained.adapted.placement == "before",
        "base": base_name(trained),
        "shape": tuple(trained.adapted.prefix().shape) if trained.adapted.prefix is not None else None,
    }
    return re.sub("@(" + "|".join(values) + ")@", lambda found: ascii(values[found.group(1)]), text)
