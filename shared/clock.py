"""Time is passed in, so that tests own it (design idea 9)."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Gives the present instant, aware, in UTC."""


def system_clock() -> datetime:
    """Give the machine's time."""
    return datetime.now(UTC)
