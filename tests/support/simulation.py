"""Check whether a simulated rate is compatible with bounds."""

import numpy as np


def within(rate: float, low: float, high: float, number: float) -> bool:
    """Whether the rate lies within the bounds, up to three standard errors of a simulation with `number` draws."""
    return low - 3 * np.sqrt(low * (1 - low) / number) <= rate <= high + 3 * np.sqrt(high * (1 - high) / number)
