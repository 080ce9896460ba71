"""The names of this package's meters in one place."""

from triptych.measure.clocks import Clocks
from triptych.measure.flops import FlopModel, WorkShape, fit_flops
from triptych.measure.memory import PeakMemory, release_free_memory
from triptych.measure.parameters import count_parameters
from triptych.measure.training_meters import TrainingMeters

__all__ = [
    "Clocks",
    "FlopModel",
    "PeakMemory",
    "TrainingMeters",
    "WorkShape",
    "count_parameters",
    "fit_flops",
    "release_free_memory",
]
