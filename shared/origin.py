"""Where a request comes from."""

from dataclasses import dataclass, field
from typing import Self

from shared.rules import Channel

WITHHELD = "withheld"  # what stands for the caller ids that are


@dataclass(frozen=True)
class Origin:
    """A channel and, on the telephone, the call and the caller id (+…; None when withheld).

    On the web, the client of the HTTP API, and in the place of the caller id what that client
    counts a person's failures by (D05): `for_client` writes it so that it is no telephone number.
    """

    channel: Channel
    caller_id: str | None = field(default=None, repr=False)
    call_id: str | None = None
    client: str | None = None

    @classmethod
    def for_client(cls, channel: Channel, client: str, address: str) -> Self:
        """Give the origin of a request that a client of the HTTP API passes on."""
        return cls(channel, caller_id=f"client:{client}:{address}", client=client)


ADMIN = Origin(Channel.ADMIN)  # a command of an admin's
