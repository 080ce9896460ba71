"""Which modules are in training mode and which in eval mode: dropout runs in trained modules only, or everywhere."""

from torch import nn


class TrainingModes:
    """Sets the mode of every module according to what is trained.

    A module of the untouched model is in training mode if all parameters in it are trained; a module without parameters
    follows its parent. Modules added by a method (such as LoRA's dropout) are in training mode.

    Args:
        model: the model before the method changes it.
        everywhere: put frozen modules in training mode as well, so that every method trains with the same dropout.
    """

    def __init__(self, model: nn.Module, everywhere: bool = False):
        self.everywhere = everywhere
        self._base = list(model.modules())  # keeps the modules alive, so that no id is reused
        self._ids = {id(module) for module in self._base}

    def train(self, model: nn.Module) -> None:
        """Set the modes for training."""
        self._set(model, inherited=False, known={})

    def eval(self, model: nn.Module) -> None:
        """Set everything to eval mode."""
        model.eval()

    def added_parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """Parameters of the modules added by a method, without those of the untouched model's modules inside them."""
        inside = [module for module in model.modules() if id(module) not in self._ids]
        return [parameter for module in inside for parameter in module.parameters(recurse=False)]

    def _set(self, module: nn.Module, inherited: bool, known: dict[int, bool | None]) -> None:
        all_trained = _all_trained(module, known)
        if self.everywhere or id(module) not in self._ids:
            mode = True
        else:
            mode = inherited if all_trained is None else all_trained
        module.training = mode
        for child in module.children():
            self._set(child, mode, known)


def _all_trained(module: nn.Module, known: dict[int, bool | None]) -> bool | None:
    """Whether all parameters in the module are trained; None: it has none. `known` caches answers by module id."""
    if id(module) not in known:
        own = [parameter.requires_grad for parameter in module.parameters(recurse=False)]
        below = [_all_trained(child, known) for child in module.children()]
        answers = [*own, *(answer for answer in below if answer is not None)]
        known[id(module)] = all(answers) if answers else None
    return known[id(module)]


def dropout_rates(model: nn.Module) -> list[float]:
    """The distinct dropout rates above 0 that are active in the modules' current modes, in ascending order."""
    rates = set()
    for module in model.modules():
        if module.training:
            own = [module.p] if isinstance(module, nn.Dropout) else []
            own += [v for name, v in vars(module).items() if "dropout" in name and isinstance(v, float)]
            rates |= {rate for rate in own if rate > 0}
    return sorted(rates)
