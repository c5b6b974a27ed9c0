"""The bascule: a person's first login on the web, with NIR and the dossier's password (R18).

Each person does it once, the conjoint too, with the same password: `begin`, `accept_terms`,
`choose_password`, then, if the person wishes or the rules say so, `send_code` and
`confirm_contact`, and `finish`. The dossier's own password stays the telephone's (R19).
"""

from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.orm import Session as Transaction

from shared import audit, codes, contacts, continuations, credentials, web_accounts, web_passwords
from shared.codes import Entry, Recipient, Wish
from shared.continuations import Purpose, Steps
from shared.credentials import Expired, Login, Proven, Refusal
from shared.database import unit_of_work
from shared.errors import SessionEndedError, StoreError
from shared.models import Continuation, Route
from shared.origin import Origin
from shared.people import open_person
from shared.rules import CredentialKind, Identifier, Way
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from shared.web_accounts import Holder
from shared.web_passwords import Fault


class StepMissingError(StoreError):
    """A step before this one was not done."""


def begin(store: Store, nir: str, password: Secret, origin: Origin) -> Session | Expired | Refusal:
    """Open the steps for a person without account whose dossier has this password.

    Of several dossiers it is the one affiliated last. Failures are counted on the dossier, where
    those of the telephone are (D05); an unknown NIR, and one that has its account, are refused
    like a wrong password (D07).
    """
    index = Holder(Identifier.NIR, nir).index(store.keys)
    with store.database.read() as transaction:
        found = web_accounts.memberships(transaction, index)
        done = web_accounts.open_account(transaction, index)
    dossier = found[0].account if found and done is None else None
    login = (
        Login(dossier.caisse, dossier.number, password)
        if dossier
        else Login(Identifier.NIR, index.hex(), password)
    )

    def granted(connection: Connection, _: Proven) -> Session:
        person_id = found[0].person.id
        with unit_of_work(connection) as transaction:
            return continuations.begin(store, transaction, Purpose.BASCULE, person_id, origin)

    way_in = store.rules.way_in(login.kind, Identifier.NIR, origin.channel, store.clock())
    return credentials.prove(store, login, origin, granted, open_now=way_in is Way.BASCULE)


def accept_terms(store: Store, session: Session) -> None:
    """Keep that the person accepted the terms of use."""
    with continuations.step(store, session, Purpose.BASCULE) as steps:
        now = store.clock()
        steps.state.terms_accepted_at = now
        person = steps.person
        audit.note(
            steps.transaction,
            "terms-accepted",
            now,
            session.origin,
            person.account_id,
            person_id=person.id,
        )


def choose_password(store: Store, session: Session, password: Secret) -> frozenset[Fault]:
    """Keep the password that the person chose, as a hash; or say what R14 finds wrong with it."""
    found = web_passwords.faults(store.rules.web_password, password, store.clock())
    if found:
        return found
    hashed = store.hasher.hash(password)
    with continuations.step(store, session, Purpose.BASCULE) as steps:
        if steps.state.terms_accepted_at is None:
            raise StepMissingError("the terms are not accepted")
        steps.state.hash_sealed = store.keys.seal(hashed.encode(), *binding(steps.state))
    return found


def send_code(store: Store, session: Session, route: Route) -> UUID | None:
    """Send a code to the person's contact on file; None if there is none that is trusted (D04)."""
    with continuations.step(store, session, Purpose.BASCULE) as steps:
        _chosen(steps)
        person = steps.person
    contact = contacts.trusted(store, open_person(store.keys, person), route)
    if contact is None:
        return None
    wish = Wish(
        purpose=codes.Purpose.CONTACT,
        route=route,
        asked_by=codes.asker(store, str(person.id), session.origin),
        recipient=Recipient(person.id, person.account_id, contact),
    )
    return codes.request(store, wish, session.origin)


def confirm_contact(
    store: Store, session: Session, code_id: UUID, code: Secret, origin: Origin
) -> bool:
    """Keep that the person has a contact on file, if the code is right."""

    def confirmed(transaction: Transaction, person_id: UUID) -> bool:
        steps = continuations.take_up(store, transaction, session, Purpose.BASCULE)
        if steps.person.id == person_id:
            steps.state.contact_confirmed_at = store.clock()
        return steps.person.id == person_id

    entry = Entry(codes.Purpose.CONTACT, codes.by_id(code_id), code)
    return codes.redeem(store, entry, origin, confirmed) or False


def finish(store: Store, session: Session) -> None:
    """Make the person's account, who then logs in with NIR and the password chosen (R23)."""
    with continuations.step(store, session, Purpose.BASCULE) as steps:
        hashed = store.keys.open(_chosen(steps), *binding(steps.state)).decode()
        must_confirm = store.rules.bascule.contact_confirmation == "required"
        if must_confirm and steps.state.contact_confirmed_at is None:
            raise StepMissingError("no contact is confirmed")
        web_accounts.lock(store, steps.transaction, steps.person)
        if web_accounts.account_of(steps.transaction, steps.person) is not None:
            raise SessionEndedError("the person has an account already")
        web_accounts.set_password(store, steps.transaction, steps.person, hashed, session.origin)
        steps.state.hash_sealed = None


def _chosen(steps: Steps) -> bytes:
    if steps.state.hash_sealed is None:
        raise StepMissingError("no password is chosen")
    return steps.state.hash_sealed


def binding(state: Continuation) -> tuple[str, ...]:
    """The hash opens for these steps only (D13)."""
    return ("continuation", state.token_hash.hex(), CredentialKind.WEB)
