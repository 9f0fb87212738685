"""The few statistics that figures need. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Interval", "interval_of_median", "median", "percentile", "quantiles", "slope"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A median and the interval that holds it with 95 % confidence."""

    median: float
    low: float
    high: float


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` % of the values do not exceed (nearest rank: a value that was seen,
    never one between two). Raises ValueError for no values or a percent outside 0..100.
    """
    if not values:
        raise ValueError("no values")
    if not 0 <= percent <= 100:
        raise ValueError(f"{percent} is not between 0 and 100")
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)]


def quantiles(values: Sequence[float], steps: int = 100) -> list[float]:
    """Percentiles in equal steps from the smallest value to the largest: what a plot of the distribution needs."""
    return [percentile(values, 100 * step / steps) for step in range(steps + 1)]


def interval_of_median(values: Sequence[float], resamples: int = 2000) -> Interval:
    """By bootstrap, always with the same seed: the same values give the same interval."""
    if not values:
        raise ValueError("no values")
    # Not for secrets: a repeatable sequence is what is wanted.
    dice = random.Random(len(values))
    medians = sorted(median(dice.choices(values, k=len(values))) for _ in range(resamples))
    return Interval(median(values), percentile(medians, 2.5), percentile(medians, 97.5))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """How much y grows for each x: the median of the slopes between all pairs of points (Theil and Sen), which one
    disturbed point does not move. Raises ValueError where no two points differ in x.
    """
    slopes = [(y2 - y1) / (x2 - x1) for i, (x1, y1) in enumerate(points) for x2, y2 in points[i + 1 :] if x1 != x2]
    if not slopes:
        raise ValueError("needs two points that differ in x")
    return median(slopes)
