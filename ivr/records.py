"""The record of a call: what happened, and neither who called nor what was keyed (D16)."""

import time
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

from shared.models import CallRecord
from shared.store import Store


class Outcome(IntEnum):
    """How a call ended: the highest that applies."""

    ABANDONED = 0  # hung up before anything was reached
    AUTHENTICATED = 1  # got in
    TRANSFERRED = 2  # handed over to an adviser
    REFUSED = 3  # could not prove who they are
    RESET_REQUESTED = 4  # asked for a new password
    CLOSED = 5  # the line was closed, or dossiers are by an incident (D15)
    FAILED = 6  # something of ours broke


@dataclass
class Recorder:
    """Collects a call's record while the call goes on."""

    call_id: str
    line: str
    started_at: datetime
    caisse: str | None = None
    number_pseudonym: str | None = None
    outcome: Outcome = Outcome.ABANDONED
    steps: list[list[str | float | None]] = field(default_factory=list)
    _entered: float = field(default=0.0, init=False, repr=False)  # when the last step was

    def note(self, outcome: Outcome) -> None:
        """Keep the highest outcome."""
        self.outcome = max(self.outcome, outcome)

    def enter(self, step: str) -> None:
        """Begin a step; it is left to nowhere until `leave` says otherwise."""
        self.steps.append([step, None, 0.0])
        self._entered = time.monotonic()

    def leave(self, next_step: str | None) -> None:
        """End the step: where it led, and how many seconds it took."""
        self.steps[-1][1:] = [next_step, round(time.monotonic() - self._entered, 1)]

    def save(self, store: Store) -> None:
        """Write the record; StoreDownError if the database is away."""
        with store.database.write() as transaction:
            transaction.add(
                CallRecord(
                    id=self.call_id,
                    started_at=self.started_at,
                    ended_at=store.clock(),
                    line=self.line,
                    caisse=self.caisse,
                    number_pseudonym=self.number_pseudonym,
                    steps=self.steps,
                    outcome=self.outcome.name.lower(),
                )
            )
