"""Export a run for use elsewhere: a transformers folder, or a prompt with its base model, and a model card."""

import copy
import re
import shutil
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from triptych.contracts import AdaptedModel
from triptych.corpus.sequence import Pair
from triptych.engine.batching import collate
from triptych.engine.forward import target_logits
from triptych.engine.generation.generate import generation_config
from triptych.errors import ConfigError, ModelError, ResultsError
from triptych.machine import choose_device
from triptych.models import quantization, weights
from triptych.results import tensor_files
from triptych.results.bundled import record_folder
from triptych.results.reading import read_finished
from triptych.run.adapters import PEFT_TENSORS
from triptych.storage.files import give_usual_modes, make_folder
from triptych.use import served
from triptych.use.model_card import model_card
from triptych.use.summarizers import TrainedModel, load_summarizer

EXAMPLE, SERVER, MODELFILE = "example.py", "serve.py", "Modelfile"
BASE_FOLDER = "base"  # the base model of an exported prompt, if it is not on the Hub
_AGREE = 1e-3  # largest difference of logits between the run and the export; merging rounds


def export_run(
    run: Path,
    folder: Path,
    model: str | None = None,
    measured: int = served.DEFAULT_MEASURED,
    progress: Callable[[int, int], None] = lambda done, total: None,
    device: str | None = "cpu",
) -> str:
    """Export a run to a folder that works without Triptych; the folder is complete or absent.

    Adapters in layers are merged, changed weights are included, and an untied head stays untied. Virtual tokens and a
    prefix cannot be merged: they are written with a usage example, and with their base model unless it is on the Hub.
    A base model that the run had in 4 bits is written with its dequantized values. No file names a folder of this
    machine, and every file has the mode of a new file.

    Args:
        run: `OUT/runs/LABEL/SEED`, or an adapter saved by peft.
        folder: a new or empty folder.
        model: the base model, if it is not available under its recorded name.
        measured: number of test documents that a merged model summarizes with the settings for other programs; the
            card shows their scores next to those of the run; 0: none.
        progress: called with `(summaries written, total)` during this.
        device: device that writes these summaries: cpu, cuda or mps; None: the best available.

    Returns:
        A sentence on what was written.

    Raises:
        InputError: there is nothing to export, `folder` contains files, or no plain model can hold what was trained.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ResultsError(f"{str(folder)!r} holds files; give a new or an empty folder to export to.")
    trained = load_summarizer(run, model, "cpu", precision="fp32", plain=True)
    if not isinstance(trained, TrainedModel):
        raise ConfigError(f"{str(run)!r} is a run without a model: there is nothing to export.")
    make_folder(folder.parent)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as place:
        made = Path(place) / "export"
        made.mkdir()
        trained.base.tokenizer.save_pretrained(made)
        figures: served.Measured | str = "a prompt is used with its base model, and decoded as in the run"
        if trained.is_prompt:
            generation_config(trained.decoding, trained.template.eos_id).save_pretrained(made)
            _write_prompt(trained, made)
            _write_base(trained, made / BASE_FOLDER)
        else:
            exported = _write_model(trained, made)
            exported.to(choose_device(device))  # type: ignore[arg-type]
            figures = served.measure(trained, exported, run, measured, progress)
            _write_modelfile(trained, made / MODELFILE)
        (made / EXAMPLE).write_text(_example(trained), encoding="utf-8")
        (made / SERVER).write_text(_template("serve.py"), encoding="utf-8")
        recorded = record_folder(run)
        record = read_finished(recorded) if (recorded / "record.json").is_file() else None
        model_card(trained, record, figures).save(made / "README.md")
        give_usual_modes(made)
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
    """A plain transformers model that computes the same as the adapted one, which is left unchanged."""
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


def _write_model(trained: TrainedModel, made: Path) -> PreTrainedModel:
    """Write the merged model with its settings, and load it again as other users of transformers do.

    Raises:
        ModelError: it does not compute the same as the run's model.
    """
    model, eos = merge_adapter(trained.adapted), trained.template.eos_id
    settings = served.settings_for_servers(trained.decoding, eos)
    model.generation_config = settings[served.GREEDY_SETTINGS]
    if model.config.model_type == "gpt2":
        model.config.n_ctx = model.config.n_positions  # llama.cpp's converter reads GPT-2's older name
    model.save_pretrained(made)
    settings[served.RUN_SETTINGS] = generation_config(trained.decoding, eos)
    for name, each in settings.items():
        each.save_pretrained(made, config_file_name=name)
    again = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32, trust_remote_code=False).eval()
    ids = np.arange(min(16, trained.adapted.parts.vocabulary_size), dtype=np.int32)
    batch = collate([Pair("probe", ids[:8], ids[8:])], trained.template)
    with torch.no_grad():  # the engine computes the run's logits: it supports everything that a method may train
        plain = again(batch.ids).logits[batch.rows, batch.columns]
        difference = float((plain - target_logits(trained.model.on_plain_path(), batch)).abs().max())
    if not difference <= _AGREE:
        raise ModelError(
            f"What {trained.kind} trained fits into no plain model of transformers: the logits of the exported model "
            f"would differ by {difference:.2g}. Use the run with `triptych summarize`."
        )
    return again


def _write_base(trained: TrainedModel, folder: Path) -> None:
    """Write the base model of a prompt; one on the Hub is only named, unless the run had it quantized."""
    if trained.base.is_published:
        return
    place = trained.base.place
    folder.mkdir()
    if trained.base.quantization != quantization.NONE:
        trained.loaded.model.save_pretrained(folder)
    elif place.gguf is not None:
        trained.base.load().save_pretrained(folder)
    else:
        source = Path(place.where)
        names, stored = weights.weight_files(source)
        for file in (source / "config.json", *stored, *([source / weights.INDEX] if names else [])):
            shutil.copyfile(file, folder / file.name)
    trained.base.tokenizer.save_pretrained(folder)


def _write_prompt(trained: TrainedModel, made: Path) -> None:
    from peft import PrefixTuningConfig, PromptTuningConfig, TaskType

    adapted = trained.adapted
    inside = any(parameter.requires_grad for parameter in adapted.parts.model.parameters())
    if inside or (adapted.virtual_tokens is not None and adapted.prefix is not None):
        raise ModelError(
            f"{trained.kind} trained a prompt and something else as well: no format supports both. Use the run with "
            "`triptych summarize`."
        )
    common: dict[str, Any] = {
        "task_type": TaskType.CAUSAL_LM,
        "num_virtual_tokens": adapted.num_virtual_tokens + adapted.prefix_length,
        "num_transformer_submodules": 1,
        "base_model_name_or_path": base_name(trained),
        "revision": trained.base.revision if trained.base.is_published else None,
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
        if adapted.placement == "before":  # peft supports no other placement
            config = PromptTuningConfig(
                token_dim=adapted.parts.hidden_size,
                num_attention_heads=getattr(shape, "num_attention_heads", 1),
                num_layers=shape.num_hidden_layers,
                **common,
            )
    tensor_files.write_tensors(made / PEFT_TENSORS, {"prompt_embeddings": tensor})
    if config is not None:
        config.save_pretrained(str(made))


def base_name(trained: TrainedModel) -> str:
    """The base model's name in an exported prompt: its name on the Hub, or the folder next to the prompt."""
    return trained.base.name if trained.base.is_published else BASE_FOLDER


def _write_modelfile(trained: TrainedModel, file: Path) -> None:
    """Write a Modelfile for Ollama, unless it cannot express the text around the document."""
    tokenizer, frame = trained.base.tokenizer, trained.text.frame
    # Ollama puts BOS before the text itself
    opening = frame.opening.removeprefix(tokenizer.bos_token or "") if frame.chat else frame.opening
    around = opening, frame.middle
    odd = any(character not in "\n\t" and not character.isprintable() for text in around for character in text)
    if odd or any('"""' in text for text in around) or opening.startswith('"') or frame.middle.endswith('"'):
        return
    end = tokenizer.convert_ids_to_tokens(trained.template.eos_id) if frame.chat else None
    values = {
        "opening": opening.replace("{{", '{{ "{{" }}'),
        "separator": frame.middle.replace("{{", '{{ "{{" }}'),
        "stop": f'PARAMETER stop "{end}"\n' if end and '"' not in end else "",
        "context": trained.max_document_tokens + trained.template.length + trained.decoding.max_new_tokens,
        "new_tokens": trained.decoding.max_new_tokens,
    }
    file.write_text(_template("Modelfile", values, str), encoding="utf-8")


def _example(trained: TrainedModel) -> str:
    kind = "prefix" if trained.adapted.prefix is not None else "prompt" if trained.is_prompt else "merged"
    values = {
        "document_tokens": trained.max_document_tokens,
        "prefix": list(trained.template.prefix_ids),
        "separator": list(trained.template.separator_ids),
        "lead": trained.text.document_lead or "",
        "space": trained.text.document_space,
    }
    if trained.is_prompt:
        values |= {
            "before": trained.adapted.placement == "before",
            "base": base_name(trained),
            "revision": trained.suite.model_revision,
            "shape": tuple(trained.adapted.prefix().shape) if trained.adapted.prefix is not None else None,
        }
    else:
        values["settings"] = served.RUN_SETTINGS
    return _template(f"{kind}.py", values)


def _template(name: str, values: dict[str, Any] | None = None, written: Callable[[Any], str] = ascii) -> str:
    """A file of the export with each `@name@` replaced by its value; placeholders within values stay as they are.

    Args:
        name: name of the file.
        values: values by name.
        written: turns a value into text; by default, a Python literal.
    """
    text = (files("triptych") / "assets/export" / f"{name}.txt").read_text(encoding="utf-8")
    values = values or {}
    if not values:
        return text
    return re.sub("@(" + "|".join(values) + ")@", lambda found: written(values[found.group(1)]), text)
