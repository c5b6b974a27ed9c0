"""Logging in on the telephone with NIR and a one-time code by SMS, after the cut-over (D10)."""

from uuid import UUID

from sqlalchemy.orm import Session as Transaction

from shared import audit, codes, contacts, incident, throttles, web_accounts
from shared.codes import Entry, Purpose, Recipient, Wish
from shared.credentials import Refusal
from shared.errors import ClosedError
from shared.models import Route
from shared.origin import Origin
from shared.people import open_person
from shared.rules import CredentialKind, Identifier
from shared.secret import Secret
from shared.store import Store
from shared.web_accounts import Holder, Membership, Sessions


def request(store: Store, nir: str, caisse: str, origin: Origin) -> None:
    """Send a code to the mobile of whoever has this NIR; an unknown one leaves the same (D04).

    ClosedError while an incident closes the channel or the caisse that was keyed (D15).
    """
    incident.refuse_closed(store, origin.channel, caisse)
    with store.database.read() as transaction:
        found = web_accounts.memberships(transaction, _holder(nir).index(store.keys))
    wish = Wish(
        purpose=Purpose.PHONE_LOGIN,
        route=Route.SMS,
        asked_by=codes.asker(store, nir, origin),
        recipient=_recipient(store, found) if _is_open(store, origin) else None,
    )
    codes.request(store, wish, origin)


def verify(store: Store, nir: str, code: Secret, origin: Origin) -> Sessions | Refusal:
    """Open the person's sessions if it is the last code that this caller asked for (D11)."""
    if not _is_open(store, origin):
        return Refusal.REFUSED
    if incident.closed(store, origin.channel):
        return Refusal.CLOSED

    def granted(transaction: Transaction, _person_id: UUID) -> Sessions:
        holder = _holder(nir)
        found = web_accounts.memberships(transaction, holder.index(store.keys))
        throttles.forgive(transaction, holder.throttle_key(store))
        for one in found:
            person_id = one.person.id
            audit.note(
                transaction, "login", store.clock(), origin, one.account.id, person_id=person_id
            )
        return web_accounts.open_sessions(store, transaction, found, origin)

    asked_by = codes.asker(store, nir, origin)
    entry = Entry(Purpose.PHONE_LOGIN, codes.newest_of(asked_by), code)
    try:
        return codes.redeem(store, entry, origin, granted) or Refusal.REFUSED
    except ClosedError:
        return Refusal.CLOSED


def _holder(nir: str) -> Holder:
    return Holder(Identifier.NIR, nir)


def _is_open(store: Store, origin: Origin) -> bool:
    return store.rules.may_log_in(
        CredentialKind.ONE_TIME, Identifier.NIR, origin.channel, store.clock()
    )


def _recipient(store: Store, found: list[Membership]) -> Recipient | None:
    for one in found:
        contact = contacts.trusted(store, open_person(store.keys, one.person), Route.SMS)
        if contact is not None:
            return Recipient(one.person.id, one.account.id, contact)
    return None
