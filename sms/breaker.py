"""Whether a provider is worth asking: after a few failures in a row it is let alone for a while.

Then one message at a time tries it; the first that goes through opens the way for all, and each
that fails doubles the pause. Times are seconds of any clock that only goes forward.
"""

from dataclasses import dataclass
from enum import StrEnum

from shared.outbox import Report, Result


@dataclass(frozen=True)
class Patience:
    """How many failures in a row are too many, and how long the pause is then, in seconds."""

    failures: int = 5
    first: float = 5.0
    longest: float = 60.0  # a code lives 10 minutes (R15)


class State(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"  # all is well
    OPEN = "open"
    HALF_OPEN = "half-open"  # one message at a time tries it


class Breaker:
    """Learns from each report of a provider how many messages it may be given."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._failures = 0  # in a row
        self._pause = patience.first
        self._open_until = 0.0
        self._throttled_until = 0.0

    def state(self, now: float) -> State:
        """Say where it stands."""
        if self._failures < self._patience.failures:
            return State.CLOSED
        return State.OPEN if now < self._open_until else State.HALF_OPEN

    def room(self, now: float, free: int, under_way: int) -> int:
        """Say how many of `free` messages its provider may be given beside those under way."""
        if now < self._throttled_until:
            return 0
        match self.state(now):
            case State.CLOSED:
                return free
            case State.HALF_OPEN:
                return min(free, max(1 - under_way, 0))
            case State.OPEN:
                return 0

    def learn(self, report: Report, now: float) -> None:
        """Take note of what came of a message.

        A provider that refuses a message, or puts it off, works; one that throttles us neither
        works nor fails.
        """
        if report.retry_after is not None:
            self._throttled_until = max(self._throttled_until, now + report.retry_after)
        elif report.message_alone or report.result in {Result.ACCEPTED, Result.REFUSED}:
            self._failures, self._pause = 0, self._patience.first
        elif self.state(now) is not State.OPEN:  # else it was asked before
            self._fail(now)

    def _fail(self, now: float) -> None:
        self._failures += 1
        if self.state(now) is not State.CLOSED:
            self._open_until = now + self._pause
            self._pause = min(2 * self._pause, self._patience.longest)
