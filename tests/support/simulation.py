"""Whether a simulated rate is compatible with a bound."""

import numpy as np


def within(rate: float, low: float, high: float, number: float) -> bool:
    """The rate lies between the bounds, up to three standard errors of a simulation of so many."""
    return low - 3 * np.sqrt(low * (1 - low) / number) <= rate <= high + 3 * np.sqrt(high * (1 - high) / number)
