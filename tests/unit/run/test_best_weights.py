"""The result of training: the run's best weights, and their loss."""

from types import SimpleNamespace

import pytest

from triptych.config.reading import merge_tables, preset_settings
from triptych.engine import evaluation
from triptych.plugins import import_plugins
from triptych.run.entries import resolve
from triptych.run.events import ignore
from triptych.run.passes import Trunk, open_trunk
from triptych.run.run_context import RunContext
from triptych.run.training import train_model

import_plugins()
SMALL = {
    "limits": {"train_documents": 16, "validation_documents": 6, "test_documents": 2, "document_tokens": 96},
    "training": {"max_epochs": 3, "global_batch_size": 4, "patience": 1},
}


@pytest.mark.parametrize(("label", "rate"), [("lora", 0.003), ("last-layers", 0.5), ("prompt-tuning", 0.03)])
def test_the_weights_that_are_left_have_the_loss_of_their_evaluation(label, rate, tmp_path):
    """A run does not evaluate its best weights again: their loss is that of the evaluation that chose them, bit-equal
    to the whole model's if that was evaluated, also if no evaluation beat the untouched weights."""
    settings = merge_tables(preset_settings("demo"), {**SMALL, "method": {label: {"learning_rate": rate}}})
    suite, (entry,) = resolve(settings, [label])
    context = RunContext.begin(suite, entry, 0, tmp_path, "cpu", ignore)
    model = context.fresh_model(entry.plugin, 0)
    found = train_model(context, entry.plugin, model)
    assert (found.summary.best_step == 0) == (rate > 0.1)
    assert context.loss(model, context.corpus.validation).mean == found.best_loss


def test_frozen_blocks_read_a_validation_document_twice(tmp_path, monkeypatch):
    """Each validation document is read once before training for its loss, and once for the trunk cache that every trial
    and evaluation then uses; the loss is that of the whole model."""
    settings = merge_tables(preset_settings("demo"), {**SMALL, "search": {"trials": 2}})
    suite, (entry,) = resolve(settings, ["last-layers"])
    context = RunContext.begin(suite, entry, 0, tmp_path / "out", "cpu", ignore)
    monkeypatch.setattr("triptych.run.passes.cache_folder", lambda: tmp_path / "cache")
    whole, real = [], evaluation.target_losses
    monkeypatch.setattr(evaluation, "target_losses", lambda model, batch: whole.append(batch) or real(model, batch))
    model = context.fresh_model(entry.plugin, 0)
    found = train_model(context, entry.plugin, model)
    assert sum(len(batch.ids) for batch in whole) == len(context.corpus.validation) == 6
    assert len(found.search.trials) > 1 and found.summary.evaluations == 3 and found.summary.best_step > 0
    assert found.best_loss == pytest.approx(context.loss(model, context.corpus.validation).mean, rel=1e-6)
    assert len(list((tmp_path / "cache/trunk").glob("*/states.bin"))) == 2


def test_states_of_the_validation_split_are_kept_where_there_is_room_and_use(tmp_path, monkeypatch):
    """They are not kept for a single evaluation, nor beyond `cache.max_gigabytes` together with those of the training
    split."""
    monkeypatch.setattr("triptych.run.passes.cache_folder", lambda: tmp_path / "cache")

    def trunk_of(**changes) -> Trunk:
        settings = merge_tables(preset_settings("demo"), merge_tables(SMALL, changes))
        suite, (entry,) = resolve(settings, ["last-layers"])
        context = RunContext.begin(suite, entry, 0, tmp_path / "out", "cpu", ignore)
        model = context.fresh_model(entry.plugin, 0)
        return open_trunk(context, entry.plugin, model, None)

    both = trunk_of()
    assert both.validation is not None
    assert trunk_of(training={"max_epochs": 1}).validation is None
    assert trunk_of(training={"max_epochs": 1}, search={"trials": 2}).validation is not None
    room = (both.cache.num_bytes + both.validation.num_bytes - 1) / 1e9
    small = trunk_of(cache={"max_gigabytes": room})
    assert small.cache is not None and small.validation is None


def test_a_run_that_began_again_says_so(tmp_path, monkeypatch):
    """If the decay does not improve, a shorter run follows; the record has its step, and a note says why."""
    validation = iter([9.0, 5.0, 4.0, 4.5, 4.6, 4.1, 3.0])  # untouched, three epochs, the decay, two epochs again
    monkeypatch.setattr(RunContext, "loss", lambda *args, **more: SimpleNamespace(mean=next(validation)))
    settings = merge_tables(preset_settings("demo"), merge_tables(SMALL, {"training": {"max_epochs": 9}}))
    suite, (entry,) = resolve(settings, ["lora"])
    context = RunContext.begin(suite, entry, 0, tmp_path, "cpu", ignore)
    found = train_model(context, entry.plugin, context.fresh_model(entry.plugin, 0))
    training = found.summary
    assert (training.restarted_at, training.decay_start, training.best_step, training.steps) == (16, 21, 24, 24)
    assert found.best_loss == 3.0 and found.notes["restarted"].startswith("the decay did not improve")
