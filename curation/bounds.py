"""A rule as one entry: a quantity, the parameter that bounds it, and the reason for what is beyond.

A rule of this kind is added by a field of the parameters, a reason, and one line in the module's
table; the order of the table is the order of evaluation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.dataset.params import Params
from pipeline.dataset.verdict import Judge, Mask, Reason

Numbers = npt.NDArray[np.float64]
Measured = TypeVar("Measured")


def at_least(values: Numbers, bound: float) -> Mask:
    """The values that keep to a lower bound; NaN, which nobody measured, keeps to any."""
    return ~(values < bound)


def at_most(values: Numbers, bound: float) -> Mask:
    """The values that keep to an upper bound; NaN, which nobody measured, keeps to any."""
    return ~(values > bound)


@dataclass(frozen=True)
class Bound(Generic[Measured]):
    """One rule; rows whose quantity is not within the bound are dropped for the reason."""

    param: str
    """The field of the parameters that holds the bound."""
    within: Callable[[Numbers, float], Mask]
    """`at_least` or `at_most`."""
    measure: Callable[[Measured], Numbers]
    """The quantity of every row, shape (rows,)."""
    reason: Reason

    def apply(self, judge: Judge, measured: Measured, params: Params) -> None:
        """Give the reason, with value and bound, to the rows that have none yet."""
        values, bound = self.measure(measured), getattr(params, self.param)
        judge.drop(~self.within(values, bound), self.reason, values, bound)
