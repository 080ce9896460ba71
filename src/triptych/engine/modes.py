"""Which modules train and which stay in eval mode, so that no dropout runs in a frozen part."""

from torch import nn


class TrainingModes:
    """Sets every module's mode by structure.

    A module of the untouched model is in training mode when every parameter below it is trained; one without parameters
    goes with the module around it. What a method has put in (LoRA's dropout, say) is in training mode.

    Args:
        model: the model before the method changes it.
    """

    def __init__(self, model: nn.Module):
        self._base = list(model.modules())  # kept, so that no id is used twice
        self._ids = {id(module) for module in self._base}

    def train(self, model: nn.Module) -> None:
        """Set the modes for training."""
        self._set(model, inherited=False)

    def eval(self, model: nn.Module) -> None:
        """Everything in eval mode."""
        model.eval()

    def _set(self, module: nn.Module, inherited: bool) -> None:
        parameters = list(module.parameters())
        if id(module) not in self._ids:
            mode = True
        elif parameters:
            mode = all(parameter.requires_grad for parameter in parameters)
        else:
            mode = inherited
        module.training = mode
        for child in module.children():
            self._set(child, mode)
