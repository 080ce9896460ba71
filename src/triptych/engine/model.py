"""The model under the engine: adapted by a method, on a machine, with what probes found that it may do."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel

from triptych.contracts import AdaptedModel, ModelParts
from triptych.corpus.sequence import Template
from triptych.engine.modes import TrainingModes
from triptych.engine.savings.recomputation import recomputing_blocks
from triptych.engine.sharding import Passed, ShardedModel, piece_of, run_sharded, shard_model
from triptych.machine import Machine
from triptych.measure.parameters import count_parameters
from triptych.models.parts import take_apart

Change = Callable[[ModelParts], AdaptedModel]  # what a method, or a saved adapter, does to an untouched model


@dataclass(frozen=True)
class Abilities:
    """What the engine may do with a model besides calling its own forward. Each is found by a probe, none is assumed.

    Attributes:
        logits_at_targets: compute logits only where the loss is read. False: the plain path, every logit through the
            model's own forward, with none of the other abilities.
        prune: run the last block only where the loss is read, in eval mode.
        prune_in_training: the same in training.
        own_decoding: write summaries by the engine's own loop instead of transformers' `generate`.
        step_blocks: take its steps through `StepBlock`s instead of the blocks' own forward.
        notes: why an ability is missing, one sentence each.
    """

    logits_at_targets: bool = False
    prune: bool = False
    prune_in_training: bool = False
    own_decoding: bool = False
    step_blocks: bool = False
    notes: tuple[str, ...] = ()


PLAIN = Abilities()


@dataclass(frozen=True)
class EngineModel:
    """An adapted model, where it runs, and what the engine found it can do.

    Attributes:
        adapted: what the method returned.
        modes: which of its modules train.
        template: how a document and its summary become one sequence.
        machine: where it runs.
        num_base_parameters: parameters of the untouched model.
        can: what the engine may do with it; at first the plain path alone, see `ready.make_ready`.
        recomputes: blocks are computed again in the backward pass, which needs less memory and more time.
        root: what its passes run in where it is sharded over the ranks; None: each rank holds the whole of it.
    """

    adapted: AdaptedModel
    modes: TrainingModes
    template: Template
    machine: Machine
    num_base_parameters: int
    can: Abilities = PLAIN
    recomputes: bool = False
    root: ShardedModel | None = None

    @classmethod
    def assemble(
        cls,
        untouched: PreTrainedModel,
        change: Change,
        template: Template,
        machine: Machine,
        dropout_everywhere: bool = False,
    ) -> "EngineModel":
        """Adapt an untouched model; it takes the plain path, everything in eval mode.

        Args:
            untouched: the model, on the machine's device or still in the CPU's memory; it may be changed in place.
            change: changes the parts of the model.
            template: how a document and its summary become one sequence.
            machine: where it runs.
            dropout_everywhere: train frozen modules with their dropout too, not only what is trained.

        Raises:
            ConfigError: the method's options do not fit the model.
            ModelError: the model cannot be taken apart, or the adapter does not fit it.
        """
        count = count_parameters(untouched).total
        adapted, modes = adapt_model(untouched, change, dropout_everywhere)
        return cls(adapted, modes, template, machine, count)

    @property
    def parts(self) -> ModelParts:
        """The parts of the adapted model."""
        return self.adapted.parts

    @property
    def prunes(self) -> bool:
        """Whether the last block runs only where the loss is read, in training while gradients are computed."""
        return self.can.prune_in_training if torch.is_grad_enabled() else self.can.prune

    def train(self) -> None:
        """Set what is trained to training mode, everything else to eval mode."""
        self.modes.train(self.parts.model)

    def eval(self) -> None:
        """Set everything to eval mode."""
        self.modes.eval(self.parts.model)

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """Inside, the model may be trained; afterwards it is as it was before, without gradients and in eval mode."""
        trained = list(self.adapted.trained_parameters().values())
        tensors = [*trained, *self.parts.model.buffers()]
        before = [piece_of(tensor).to("cpu", copy=True) for tensor in tensors]
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, value in zip(tensors, before, strict=True):
                    piece_of(tensor).copy_(value)
            for parameter in trained:
                parameter.grad = None
            self.eval()

    def computing(self) -> AbstractContextManager[None]:
        """Inside, the blocks keep for the backward pass what they compute or, if the model recomputes, what enters."""
        return recomputing_blocks(self.parts) if self.recomputes else nullcontext()

    @property
    def is_on_machine(self) -> bool:
        """Whether the model is on its machine's device, not still in the CPU's memory."""
        return self.parts.device.type == self.machine.device.type

    def to_machine(self) -> "EngineModel":
        """The same model on its machine's device; changed in place."""
        for module in self.adapted.modules():
            module.to(self.machine.device)
        return self

    @property
    def is_sharded(self) -> bool:
        """Whether each rank holds a piece of every weight, so that all ranks must make each pass together."""
        return self.root is not None

    def run(self, work: Callable[[], Passed]) -> Passed:
        """`work()`, a pass through the model, with the weights that it needs gathered where the model is sharded."""
        return work() if self.root is None else run_sharded(self.root, work)

    def shard(self) -> "EngineModel":
        """The same model sharded over all ranks of its machine, which call this together; changed in place."""
        added = self.modes.added_parameters(self.parts.model)
        root = shard_model(self.adapted, added, self.machine.device, self.machine.num_processes)
        return replace(self, root=root)

    def on_plain_path(self) -> "EngineModel":
        """The same model, every logit computed through its own forward."""
        return replace(self, can=PLAIN)

    def as_sketch(self, sketch: AdaptedModel) -> "EngineModel":
        """The same model without weights, for counting what a pass computes.

        Args:
            sketch: the adapted model on the `meta` device.
        """
        return replace(self, adapted=sketch, root=None)


def adapt_model(
    untouched: PreTrainedModel, change: Change, dropout_everywhere: bool = False
) -> tuple[AdaptedModel, TrainingModes]:
    """Take a model apart and let a method change it; everything ends on the model's device, in eval mode.

    Args:
        untouched: the model; it may be changed in place.
        change: changes its parts.
        dropout_everywhere: see `EngineModel.assemble`.

    Raises:
        ConfigError: the method's options do not fit the model.
        ModelError: the model cannot be taken apart, or the adapter does not fit it.
    """
    parts, modes = take_apart(untouched), TrainingModes(untouched, dropout_everywhere)
    adapted = change(parts)
    for learned in adapted.learned_inputs():
        learned.to(parts.device)
    modes.eval(untouched)
    return adapted, modes
