"""How far something that takes long has got: told to whoever waits for it."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Told (steps done, steps in all)."""


def unheard(_done: int, _steps: int) -> None:
    """Be told, where nobody waits."""
