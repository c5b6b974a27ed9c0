"""What the dispatcher asks of whoever carries its messages."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import Protocol
from uuid import UUID

from shared.models import Route
from shared.outbox import Report
from shared.secret import Secret

LONGEST_SHORT_CODE = 6


@dataclass(frozen=True)
class Outgoing:
    """One attempt to send a message; repr hides to whom and what.

    `destination` is E.164 (`+33…`) or a mail address, `sender` what is shown as its origin.
    `message_id` is the same in each attempt: receivers of mail know a repeat by it (D19). Nobody
    can have had it before `queued_at`; `life` is what is left of it, a second at least: it is not
    to be delivered later (R15, R24).
    """

    attempt_id: UUID
    destination: str = field(repr=False)
    text: Secret
    sender: str
    message_id: UUID
    life: timedelta
    queued_at: datetime
    subject: str = ""  # of a mail

    @property
    def life_seconds(self) -> int:
        """Its life as providers are told it: a second that has begun counts."""
        return ceil(self.life.total_seconds())


@dataclass(frozen=True)
class Received:
    """A message that somebody sent to a number of ours; repr hides who it was, and what it says.

    `sender` is +…, national or as the provider writes it; `called` the same.
    """

    provider: str
    provider_id: str | None
    called: str
    sender: str = field(repr=False)
    text: str = field(repr=False)


class ProviderStoppedError(Exception):
    """The provider turns all of our messages away, for a reason of ours; this one is not sent."""


class Provider(Protocol):
    """A way out for messages. Any other exception of its methods means: outcome unknown."""

    @property
    def name(self) -> str:
        """What attempts are recorded under."""

    @property
    def route(self) -> Route:
        """Which messages it takes."""

    @property
    def window(self) -> int | None:
        """How many messages it takes at once; None: as many as there are."""

    async def send(self, message: Outgoing) -> Report:
        """Hand a message over, once; ProviderStoppedError if our configuration is wrong."""

    async def look_up(self, message: Outgoing) -> Report | None:
        """Say what became of an attempt whose outcome is unknown.

        ACCEPTED: it has it; RETRY: it has not, and will not take it any more should it still be on
        its way; None: can't say.
        """
