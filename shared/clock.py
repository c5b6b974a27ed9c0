"""Time and chance are passed in, so that tests own them (design idea 9)."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

DAY = timedelta(days=1)  # « a day » is a rolling 24 hours

Clock = Callable[[], datetime]
"""Gives the present instant, aware, in UTC."""

Chance = Callable[[int], int]
"""Gives a number from 0 up to, but without, the one asked for."""

fair_chance: Chance = secrets.randbelow


def system_clock() -> datetime:
    """Give the machine's time."""
    return datetime.now(UTC)
