"""The training recipe, from the settings of the suite and the method."""

from triptych.config.schema import Suite
from triptych.contracts import Method
from triptych.engine.training import TrainingPlan


def training_plan(
    suite: Suite, method: Method, rate: float, seed: int, micro_batch: int, recomputes: bool = False
) -> TrainingPlan:
    """The training recipe, the same for every method except as noted in `TrainingPlan`.

    Args:
        suite: the resolved suite.
        method: the method, which sets the weight decay.
        rate: the peak learning rate.
        seed: the seed of document order and dropout.
        micro_batch: documents per forward pass.
        recomputes: whether blocks are recomputed in the backward pass.
    """
    t = suite.training
    return TrainingPlan(
        learning_rate=rate,
        weight_decay=method.weight_decay,
        max_epochs=t.max_epochs,
        eval_every=t.eval_every,
        patience=t.patience,
        global_batch_size=t.global_batch_size,
        micro_batch_size=micro_batch,
        max_grad_norm=t.max_grad_norm,
        warmup_fraction=t.warmup_fraction,
        schedule=t.schedule,
        optimizer=t.optimizer,
        seed=seed,
        recomputes=recomputes,
    )
