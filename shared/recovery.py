"""« Mot de passe oublié » on the web: a code to a contact on file, then a new password (R12, R13).

The answer is the same whoever asks for whomever (D04), and a request ends nothing: only the right
code and a good password do, and then the person's other web password and sessions are over.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy.orm import Session as Transaction

from shared import codes, contacts, continuations, incident, web_accounts, web_passwords
from shared.codes import Entry, Recipient, Wish
from shared.contacts import Contact
from shared.continuations import Purpose
from shared.identifiers import e164
from shared.models import Route
from shared.origin import Origin
from shared.people import PersonData, normalise_name, open_person
from shared.rules import CredentialKind
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from shared.web_accounts import Holder, Membership
from shared.web_passwords import Fault


@dataclass(frozen=True)
class Claim:
    """What a person gives who forgot the password; repr hides it.

    `contact` is where the code should go, as the person wrote it, if the screen asks for it.
    """

    holder: Holder
    birth_name: str = field(repr=False)
    route: Route
    contact: str | None = field(default=None, repr=False)


def request(store: Store, claim: Claim, origin: Origin) -> UUID:
    """Send a code if everything given is on file; give the id that it is entered with (D04).

    ClosedError while an incident closes the channel (D15).
    """
    incident.refuse_closed(store, origin.channel)
    open_now = store.rules.may_log_in(
        CredentialKind.WEB, claim.holder.identifier, origin.channel, store.clock()
    )
    with store.database.read() as transaction:
        found = web_accounts.memberships(transaction, claim.holder.index(store.keys))
    wish = Wish(
        purpose=codes.Purpose.RECOVERY,
        route=claim.route,
        asked_by=codes.asker(store, claim.holder.value, origin),
        recipient=_recipient(store, claim, found) if open_now else None,
    )
    return codes.request(store, wish, origin)


def verify(store: Store, code_id: UUID, code: Secret, origin: Origin) -> Session | None:
    """Open what `choose_password` needs, if the code is right; None if it is not.

    ClosedError while an incident closes the channel or the caisse (D15): the code stays good.
    """
    incident.refuse_closed(store, origin.channel)

    def granted(transaction: Transaction, person_id: UUID) -> Session:
        return continuations.begin(store, transaction, Purpose.RECOVERY, person_id, origin)

    entry = Entry(codes.Purpose.RECOVERY, codes.by_id(code_id), code)
    return codes.redeem(store, entry, origin, granted)


def choose_password(store: Store, session: Session, password: Secret) -> frozenset[Fault]:
    """Make it the person's web password; or say what R14 finds wrong with it, and try again.

    A person without account gets one: the bascule's password may be what was forgotten (R12, R20).
    """
    found = web_passwords.faults(store.rules.web_password, password, store.clock())
    if found:
        return found
    hashed = store.hasher.hash(password)
    with continuations.step(store, session, Purpose.RECOVERY) as steps:
        web_accounts.set_password(store, steps.transaction, steps.person, hashed, session.origin)
    return found


def _recipient(store: Store, claim: Claim, found: Iterable[Membership]) -> Recipient | None:
    """Give the person whose name it is, with a contact that is trusted and the one given."""
    for one in found:
        person = open_person(store.keys, one.person)
        contact = contacts.trusted(store, person, claim.route)
        if contact and _is_named(person, claim.birth_name) and _is_given(claim, person, contact):
            return Recipient(one.person.id, one.account.id, contact)
    return None


def _is_named(person: PersonData, birth_name: str) -> bool:
    return person.surname is not None and (
        normalise_name(person.surname) == normalise_name(birth_name)
    )


def _is_given(claim: Claim, person: PersonData, trusted: Contact) -> bool:
    """Say whether the contact given is on file; none given is right too (R13)."""
    if claim.contact is None:
        return True
    by_mail = claim.route is Route.MAIL
    given = contacts.normal_mail(claim.contact) if by_mail else e164(claim.contact)
    current = contacts.on_file(person, claim.route)
    return given in {one.value for one in (current, trusted) if one is not None}
