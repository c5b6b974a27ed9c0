"""Where a request comes from."""

from dataclasses import dataclass, field

from shared.rules import Channel


@dataclass(frozen=True)
class Origin:
    """A channel and, on the telephone, the call and the caller id (+…; None when withheld)."""

    channel: Channel
    caller_id: str | None = field(default=None, repr=False)
    call_id: str | None = None
