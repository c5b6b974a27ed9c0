"""What a person's row was before a change, kept with its audit row, so that it can be undone (D15).

The image is sealed to the person, the event and its instant. Blind indexes and dates go with the
contacts they belong to: putting them back needs no look at what they say.
"""

import json
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session as Transaction

from shared import audit, people
from shared.audit import Event
from shared.models import AuditEntry, Person
from shared.origin import Origin
from shared.store import Store

CONTACTS = (
    "mobile_sealed",
    "mobile_index",
    "mobile_since",
    "mobile_before_sealed",
    "landline_sealed",
    "landline_index",
    "email_sealed",
    "email_since",
    "address_sealed",
    "address_since",
    "address_before_sealed",
)
DELEGATION = ("delegated_at",)

# What each event changes of a person.
COLUMNS = {
    "contacts-changed": CONTACTS,
    "delegation-given": DELEGATION,
    "delegation-withdrawn": DELEGATION,
}


@dataclass(frozen=True)
class Change:
    """A change of a person that is about to be made."""

    event: Event
    at: datetime
    origin: Origin
    person: Person
    by: UUID | None = None  # the person whose session it is, if it is one's


def note(store: Store, transaction: Transaction, change: Change) -> None:
    """Audit a change of a person with what was there before: call it before the change is made."""
    person = change.person
    audit.note(
        transaction,
        change.event,
        change.at,
        change.origin,
        person.account_id,
        person_id=change.by,
        subject_id=person.id,
        before_sealed=image(store, change),
    )


def image(store: Store, change: Change) -> bytes:
    """Seal what a change is about to replace."""
    person = change.person
    values = {name: _to_json(store, person, name) for name in COLUMNS[change.event]}
    binding = _binding(str(person.id), change.event, change.at)
    return store.keys.seal(json.dumps(values).encode(), *binding)


def put_back(store: Store, entry: AuditEntry, person: Person) -> None:
    """Give a person what an audit row says was there; SealError if it was altered."""
    values = json.loads(store.keys.open(entry.before_sealed or b"", *binding(entry)))
    for name in COLUMNS[entry.event]:
        setattr(person, name, _from_json(store, person, name, values[name]))


def binding(entry: AuditEntry) -> tuple[str, ...]:
    """An image opens for its person, event and instant only (D13)."""
    return _binding(str(entry.subject_id), entry.event, entry.at)


def _binding(subject: str, event: str, at: datetime) -> tuple[str, ...]:
    return ("audit", subject, event, at.isoformat())


def _to_json(store: Store, person: Person, column: str) -> str | None:
    """Give a value as text; what is sealed is opened, since its key may be gone by then."""
    value = getattr(person, column)
    if value is None:
        return None
    if column.endswith("_sealed"):
        return store.keys.open(value, *_of_person(person, column)).decode()
    return value.hex() if isinstance(value, bytes) else value.isoformat()


def _from_json(store: Store, person: Person, column: str, text: str | None) -> Any:
    if text is None:
        return None
    if column.endswith("_sealed"):
        return store.keys.seal(text.encode(), *_of_person(person, column))
    if column.endswith("_index"):
        return bytes.fromhex(text)
    return datetime.fromisoformat(text) if column == "delegated_at" else date.fromisoformat(text)


def _of_person(person: Person, column: str) -> tuple[str, ...]:
    return people.binding(person.id, column.removesuffix("_sealed"))
