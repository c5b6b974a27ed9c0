"""Whether a provider is worth asking: after a few failures in a row it is let alone for a while.

Then one message at a time tries it; the first that goes through opens the way for all, and each
that fails doubles the pause. One that throttles us is let alone for as long as it says; if that is
longer than the longest pause, one message tries it after each of these. Times are seconds of any
clock that only goes forward.
"""

from dataclasses import dataclass
from enum import StrEnum

from shared.outbox import Report, Result


@dataclass(frozen=True)
class Patience:
    """How many failures in a row are too many, and how long the pause is then, in seconds."""

    failures: int = 5
    first: float = 5.0
    longest: float = 60.0  # between two tries: a code lives 10 minutes (R15)


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
        self._try_at = 0.0  # even if it still throttles us

    def state(self, now: float) -> State:
        """Say where it stands."""
        if self._failures < self._patience.failures:
            return State.CLOSED
        return State.OPEN if now < self._open_until else State.HALF_OPEN

    def throttled(self, now: float) -> bool:
        """Say whether the provider has us wait so long that one message tries it meanwhile."""
        return now < self._throttled_until and self._try_at < self._throttled_until

    def room(self, now: float, free: int, under_way: int) -> int:
        """Say how many of `free` messages its provider may be given beside those under way."""
        state, waiting = self.state(now), now < self._throttled_until
        if state is State.OPEN or (waiting and now < self._try_at):
            return 0
        if state is State.HALF_OPEN or waiting:
            return min(free, max(1 - under_way, 0))
        return free

    def learn(self, report: Report, now: float) -> None:
        """Take note of what came of a message.

        A provider that refuses a message, or puts it off, works; one that throttles us neither
        works nor fails.
        """
        if report.retry_after is not None:
            self._throttle(now + report.retry_after, now)
        elif report.message_alone or report.result in {Result.ACCEPTED, Result.REFUSED}:
            self._failures, self._pause = 0, self._patience.first
            if now >= self._try_at:  # else it was asked before
                self._throttled_until = now
        elif self.state(now) is not State.OPEN:  # else it was asked before
            self._fail(now)

    def _throttle(self, until: float, now: float) -> None:
        tried = now >= self._try_at
        self._throttled_until = until if tried else max(self._throttled_until, until)
        self._try_at = now + self._patience.longest

    def _fail(self, now: float) -> None:
        self._failures += 1
        if self.state(now) is not State.CLOSED:
            self._open_until = now + self._pause
            self._pause = min(2 * self._pause, self._patience.longest)
