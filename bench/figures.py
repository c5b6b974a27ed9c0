"""What every benchmark measures and prints with."""

import math
import os
import statistics
from collections.abc import Sequence

SERVER_CORE, LOAD_CORE = 0, 1  # what is measured has a core of its own where there are two


def pin(core: int) -> None:
    """Keep this process, and those it starts, on one core."""
    os.sched_setaffinity(0, {core % (os.cpu_count() or 1)})


def unpin() -> None:
    """Let this process run on every core again."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))


def median_and_best(rates: Sequence[float]) -> str:
    """Write rates a second, all of the same thing: « 24,100/s (best 25,300) »."""
    return f"{statistics.median(rates):,.0f}/s (best {max(rates):,.0f})"


def ratio(rates: Sequence[float], of: Sequence[float]) -> float:
    """Compare two things, each measured once in every round: the median of the rounds' ratios."""
    return statistics.median(one / other for one, other in zip(rates, of, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """Give the value that `share` (0 to 1) of the values do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]
