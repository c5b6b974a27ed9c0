"""A process with another key ring than the database's does not start (D13).

It would refuse every password and drop every message as damaged. The first process writes a value
that opens with this ring alone: it is sealed, and holds what the index key makes of a constant. A
rotation seals it anew, so that a copy of the ring from before the rotation is refused, too.
"""

import hmac

from sqlalchemy import or_, select
from sqlalchemy.orm import Session as Transaction

from shared.errors import SealError, SettingsError
from shared.keyring import KeyRing
from shared.models import KeyCheck, Person
from shared.people import open_person
from shared.store import Store

ONLY = 1  # the id of the row
SAMPLE = 10  # people: one of them may be damaged
LOCK = b"key-ring"  # of no ring's making: those that differ must meet here


def check(store: Store) -> None:
    """Raise SettingsError unless the store's key ring is the one of its database."""
    with store.database.read() as transaction:
        row = transaction.get(KeyCheck, ONLY)
    if not _opens(store.keys, row or _first(store)):
        raise _refusal(store)


def binding(row: KeyCheck) -> tuple[str, ...]:
    """The value opens in its own row only."""
    return ("key_check", str(row.id), "ring")


def _first(store: Store) -> KeyCheck:
    """Write the row, unless another process has just done so."""
    with store.database.write() as transaction:
        store.database.lock(transaction, LOCK)
        row = transaction.get(KeyCheck, ONLY)
        if row is None:
            if not _opens_what_is_there(store, transaction):
                raise _refusal(store)
            row = KeyCheck(id=ONLY)
            row.ring_sealed = store.keys.seal(_fingerprint(store.keys), *binding(row))
            transaction.add(row)
        return row


def _opens(keys: KeyRing, row: KeyCheck) -> bool:
    try:
        known = keys.open(row.ring_sealed, *binding(row))
    except SealError:
        return False
    return hmac.compare_digest(known, _fingerprint(keys))


def _opens_what_is_there(store: Store, transaction: Transaction) -> bool:
    """Say whether the ring opens what was sealed by a version that kept no check."""
    sealed = or_(Person.identity_sealed.is_not(None), Person.mobile_sealed.is_not(None))
    people = transaction.scalars(select(Person).where(sealed).order_by(Person.id).limit(SAMPLE))
    opened = [_opens_person(store.keys, person) for person in people]
    return any(opened) or not opened


def _opens_person(keys: KeyRing, person: Person) -> bool:
    try:
        open_person(keys, person)
    except SealError:
        return False
    return True


def _fingerprint(keys: KeyRing) -> bytes:
    return keys.index("key-check", "")


def _refusal(store: Store) -> SettingsError:
    return SettingsError(
        f"{store.keys.path}: ce trousseau n'est pas celui de la base ;"
        " restaurez celui de sa sauvegarde"
    )
