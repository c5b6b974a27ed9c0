"""Codes that API clients have sent to a contact of nobody's dossier, and have checked (R15).

The client never sees the code: it learns that whoever it speaks to reads what comes there. Its
purposes are its own, and no client's code is good for another's, nor for the store's own.
"""

from uuid import UUID

from shared import codes, incident
from shared.codes import Entry, Recipient, Wish
from shared.contacts import Contact
from shared.origin import Origin
from shared.secret import Secret
from shared.store import Store


def request(store: Store, purpose: str, contact: Contact, origin: Origin) -> UUID:
    """Send a code, unless the contact was sent too many; give the id that it is entered with (D04).

    ClosedError while an incident closes the channel (D15).
    """
    incident.refuse_closed(store, origin.channel)
    wish = Wish(
        purpose=_own(purpose, origin),
        route=contact.route,
        asked_by=codes.asker(store, contact.value, origin),
        recipient=Recipient(None, None, contact),
    )
    return codes.request(store, wish, origin)


def verify(store: Store, purpose: str, code_id: UUID, code: Secret, origin: Origin) -> bool:
    """Use a code up, and say whether it is the right one.

    ClosedError while an incident closes the channel (D15): the code stays good.
    """
    incident.refuse_closed(store, origin.channel)
    entry = Entry(_own(purpose, origin), codes.by_id(code_id), code)
    return codes.redeem(store, entry, origin, lambda *_: True) is not None


def _own(purpose: str, origin: Origin) -> str:
    """Name a client's purpose; the store's own have no colon."""
    return f"{origin.client}:{purpose}"
