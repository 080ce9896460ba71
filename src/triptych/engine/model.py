"""The model as the engine sees it: adapted by a method, on a machine, with the abilities that probes found."""

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

Change = Callable[[ModelParts], AdaptedModel]  # how a method, or a saved adapter, changes an untouched model


@dataclass(frozen=True)
class Abilities:
    """What the engine may do with a model besides calling its own forward. Each is confirmed by a probe, never assumed.

    Attributes:
        logits_at_targets: compute logits only at the targets. False: the plain path, where all logits come from the
            model's own forward, with none of the other abilities.
        prune: run the last block only at the targets, in eval mode.
        prune_in_training: the same in training.
        own_decoding: generate summaries with the engine's own loop instead of transformers' `generate`.
        step_blocks: run that loop's steps through `StepBlock`s instead of the blocks' own forward.
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
    """An adapted model, the machine it runs on, and the abilities that the engine found.

    Attributes:
        adapted: what the method returned.
        modes: which of its modules train.
        template: how a document and its summary become one sequence.
        machine: where it runs.
        num_base_parameters: parameters of the untouched model.
        can: what the engine may do with it; initially only the plain path, see `ready.make_ready`.
        recomputes: whether blocks are recomputed in the backward pass, which needs less memory and more time.
        root: the root module that passes go through if the model is sharded over the ranks; None: each rank holds the
            whole model.
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
        """Adapt an untouched model; the result uses the plain path and is in eval mode.

        Args:
            untouched: the model, on the machine's device or still in CPU memory; it may be changed in place.
            change: applies the method or saved adapter to the model's parts.
            template: how a document and its summary become one sequence.
            machine: where it runs.
            dropout_everywhere: also use the dropout of frozen modules in training, not only of trained ones.

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
        """Whether the last block runs only at the targets, in training (with gradients) or in evaluation (without)."""
        return self.can.prune_in_training if torch.is_grad_enabled() else self.can.prune

    def train(self) -> None:
        """Set trained modules to training mode and all others to eval mode."""
        self.modes.train(self.parts.model)

    def eval(self) -> None:
        """Set everything to eval mode."""
        self.modes.eval(self.parts.model)

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """A context in which the model may be trained; on exit it is restored, without gradients and in eval mode."""
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
        """A context in which blocks keep only their inputs for the backward pass if the model recomputes them."""
        return recomputing_blocks(self.parts) if self.recomputes else nullcontext()

    @property
    def is_on_machine(self) -> bool:
        """Whether the model is on its machine's device rather than still in CPU memory."""
        return self.parts.device.type == self.machine.device.type

    def to_machine(self) -> "EngineModel":
        """Move the model to its machine's device, in place."""
        for module in self.adapted.modules():
            module.to(self.machine.device)
        return self

    @property
    def is_sharded(self) -> bool:
        """Whether each rank holds a piece of every weight, so that all ranks must run each pass together."""
        return self.root is not None

    def run(self, work: Callable[[], Passed]) -> Passed:
        """Run `work()`, a pass through the model; if the model is sharded, the weights it needs are gathered."""
        return work() if self.root is None else run_sharded(self.root, work)

    def shard(self) -> "EngineModel":
        """Shard the model over all ranks of its machine, in place; all ranks call this together."""
        added = self.modes.added_parameters(self.parts.model)
        root = shard_model(self.adapted, added, self.machine.device, self.machine.num_processes)
        return replace(self, root=root)

    def on_plain_path(self) -> "EngineModel":
        """The same model with all logits computed by its own forward."""
        return replace(self, can=PLAIN)

    def as_sketch(self, sketch: AdaptedModel) -> "EngineModel":
        """The same model without weights, for counting the FLOPs of a pass.

        Args:
            sketch: the adapted model on the `meta` device.
        """
        return replace(self, adapted=sketch, root=None)


def adapt_model(
    untouched: PreTrainedModel, change: Change, dropout_everywhere: bool = False
) -> tuple[AdaptedModel, TrainingModes]:
    """Take a model apart and let a method change it; the result is on the model's device, in eval mode.

    Args:
        untouched: the model; it may be changed in place.
        change: applies the method or saved adapter to its parts.
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
