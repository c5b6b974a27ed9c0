"""Provisional identifiers: `P` and 8 digits, for a person without a NIR (R20, R22).

One opens a person's account on the web as a NIR does. From the moment that the person's NIR is
known it finds nobody any more, and the first password chosen under the NIR ends its account:
`web_accounts` sees to both.
"""

from datetime import datetime, timedelta
from uuid import uuid4

import structlog
from sqlalchemy import Select, func, literal, select, update
from sqlalchemy.orm import Session as Transaction

from shared import audit, contacts, incident, notices
from shared.clock import DAY
from shared.contacts import Contact
from shared.credentials import NOBODY
from shared.database import insert_if
from shared.life_cycle import Key
from shared.models import Account, Message, Person, Route, WebAccount
from shared.notices import Notice, Template
from shared.origin import Origin
from shared.people import PersonData, identity_key, open_person
from shared.rules import CredentialKind, Identifier
from shared.store import Store
from shared.web_accounts import Holder

DIGITS = 8
NOWHERE = Contact(Route.SMS, "")  # what is written, and not sent, for nobody (D04)

log = structlog.get_logger(__name__)


def request(store: Store, key: Key, who: PersonData, origin: Origin) -> None:
    """Give a person of that dossier an identifier, and send it: the one there is, if there is one.

    Only whose NIR is not on file gets one: there is none, or the civil status does not match it
    (R20). It takes no secret, since it goes to a contact on file alone and opens nothing before a
    code sent there lets its owner choose a password (R13).

    The same statements run for everybody: nobody can tell what a request did (D04). ClosedError
    while an incident closes the channel or the caisse (D15).
    """
    now, index = store.clock(), _index(store, who)
    kind, channel = CredentialKind.WEB, origin.channel
    open_now = store.rules.may_log_in(kind, Identifier.PROVISIONAL, channel, now)
    with store.database.write() as transaction:
        incident.check_open(transaction, channel, key.caisse)
        person, known = _found(store, transaction, key, index)
        account = known or WebAccount(id=uuid4(), person_id=person and person.id, created_at=now)
        drawn = _draw(store, transaction)
        is_first = account.provisional_sealed is None
        identifier = drawn if is_first else identifier_of(store, account)
        notice = _notice(store, person, identifier, now) if person else _to_nobody(now)
        allowed = _allowed(store, transaction, notice, now)
        wanted = open_now and person is not None and allowed
        insert_if(transaction, account, wanted=wanted and known is None)
        _give(store, transaction, account, identifier, wanted=wanted)
        notices.queue(store, transaction, notice, wanted=wanted)
        event: audit.Event = "provisional-issued" if is_first else "provisional-sent"
        audit.note(
            transaction,
            event if wanted else "provisional-request-suppressed",
            now,
            origin,
            notice.account_id,
            subject_id=account.id if wanted else None,
        )


def remind(store: Store, who: PersonData, origin: Origin) -> None:
    """« Identifiant oublié »: send it again to who has that name and birth date (R22).

    The same statements run for everybody: nobody can tell what a request did (D04). Of homonyms
    born on the same day the one who got an identifier last is meant. ClosedError while an incident
    closes the channel; a closed caisse is no news of a stranger's (D15).
    """
    now, index = store.clock(), _index(store, who)
    with store.database.write() as transaction:
        incident.check_open(transaction, origin.channel)
        store.database.lock(transaction, index)
        found = transaction.execute(_with_identifier(index)).first()
        notice = _to_nobody(now)
        if found is not None:
            person, account = found
            notice = _notice(store, person, identifier_of(store, account), now)
        allowed = _allowed(store, transaction, notice, now)
        closed = incident.closed_to(transaction, origin.channel, notice.account_id)
        wanted = found is not None and allowed and not closed
        notices.queue(store, transaction, notice, wanted=wanted)
        event: audit.Event = "provisional-sent" if wanted else "provisional-request-suppressed"
        audit.note(transaction, event, now, origin, notice.account_id)


def _index(store: Store, who: PersonData) -> bytes:
    return store.keys.index("identity", identity_key(who) or "")


def _found(
    store: Store, transaction: Transaction, key: Key, index: bytes
) -> tuple[Person | None, WebAccount | None]:
    """Find the person, and the account if there is one; hold off whoever else makes or changes it.

    Whoever asks for nobody does the same, and must not wait for others who do (D04).
    """
    store.database.lock(transaction, index)
    person = transaction.scalar(_without_nir(key, index))
    store.database.lock(transaction, person.id.bytes if person else index)  # web_accounts.lock's
    account = transaction.scalar(
        select(WebAccount).where(
            WebAccount.person_id == (person.id if person else NOBODY), WebAccount.ended_at.is_(None)
        )
    )
    return person, account


def _without_nir(key: Key, index: bytes) -> Select[Person]:
    """Select who has that civil status in an open dossier, and no NIR; none comes meanwhile."""
    return (
        select(Person)
        .join(Account, Account.id == Person.account_id)
        .where(
            Account.caisse == key.caisse,
            Account.number == key.number,
            Account.closed_at.is_(None),
            Person.identity_index == index,
            Person.nir_index.is_(None),
        )
        .order_by(Person.role)
        .limit(1)
        .with_for_update(of=Person, key_share=True)
    )


def _with_identifier(index: bytes) -> Select[Person, WebAccount]:
    """Select who has that civil status in an open dossier, and an identifier in force."""
    return (
        select(Person, WebAccount)
        .join(WebAccount, WebAccount.person_id == Person.id)
        .join(Account, Account.id == Person.account_id)
        .where(
            Person.identity_index == index,
            Person.nir_index.is_(None),
            WebAccount.provisional_index.is_not(None),
            WebAccount.ended_at.is_(None),
            Account.closed_at.is_(None),
        )
        .order_by(WebAccount.created_at.desc())
        .limit(1)
    )


def _give(
    store: Store, transaction: Transaction, account: WebAccount, identifier: str, *, wanted: bool
) -> None:
    """Make it the account's, if that is wanted; if not, the same statement changes none (D04)."""
    transaction.execute(
        update(WebAccount)
        .where(WebAccount.id == account.id, literal(wanted))
        .values(
            provisional_index=Holder(Identifier.PROVISIONAL, identifier).index(store.keys),
            provisional_sealed=store.keys.seal(identifier.encode(), *binding(account)),
        ),
        execution_options={"synchronize_session": False},
    )


def _draw(store: Store, transaction: Transaction) -> str:
    """Draw an identifier that nobody has or ever had."""
    store.database.lock(transaction, store.keys.index("lock", "provisional"))
    while True:
        drawn = f"P{store.chance(10**DIGITS):0{DIGITS}}"
        index = Holder(Identifier.PROVISIONAL, drawn).index(store.keys)
        of_others = WebAccount.provisional_index == index
        if transaction.scalar(select(WebAccount.id).where(of_others)) is None:
            return drawn


def _notice(store: Store, person: Person, identifier: str, now: datetime) -> Notice:
    """Write to the quickest contact that is trusted, else by post (R20, D04)."""
    data = open_person(store.keys, person)
    letter = Contact(Route.LETTER, str(person.id))  # the address is read when it is printed
    contact = next(contacts.all_trusted(store, data), letter)
    rules = store.rules.reset
    by_post = contact.route is Route.LETTER
    life = rules.letter_days * DAY if by_post else timedelta(hours=rules.message_hours)
    return Notice(
        template=Template.PROVISIONAL,
        account_id=person.account_id,
        contact=contact,
        content={"digits": identifier.removeprefix("P")},
        expires_at=now + life,
    )


def identifier_of(store: Store, account: WebAccount) -> str:
    """Open the identifier of an account that has one."""
    return store.keys.open(account.provisional_sealed or b"", *binding(account)).decode()


def _to_nobody(now: datetime) -> Notice:
    return Notice(Template.PROVISIONAL, None, NOWHERE, {"digits": DIGITS * "0"}, now)


def _allowed(store: Store, transaction: Transaction, notice: Notice, now: datetime) -> bool:
    """Count what was sent: D06's limits, those of a forgotten password.

    Every count is made, whatever the first ones say (D04).
    """
    rules = store.rules.reset
    sent = (
        select(func.count())
        .select_from(Message)
        .where(Message.template == notice.template, Message.campaign_id.is_(None))
    )
    of_account = sent.where(Message.account_id == (notice.account_id or NOBODY))
    to_contact = sent.where(Message.destination_index == notice.contact.index(store.keys))
    by_post = notice.contact.route is Route.LETTER

    def within(limit: int, span: timedelta, counted: Select[int]) -> bool:
        return (transaction.scalar(counted.where(Message.created_at > now - span)) or 0) < limit

    service_open = within(rules.service_hour, timedelta(hours=1), sent)
    if not service_open:
        log.warning("provisional_budget_spent", an_hour=rules.service_hour)
    return all(
        [
            within(1, timedelta(minutes=rules.account_minutes), of_account),
            within(rules.account_day, DAY, of_account),
            within(rules.account_month, 30 * DAY, of_account),
            within(1, rules.letter_days * DAY, to_contact)
            if by_post
            else within(rules.phone_day, DAY, to_contact),
            service_open,
        ]
    )


def binding(account: WebAccount) -> tuple[str, ...]:
    """A provisional identifier opens for its account only (D13)."""
    return ("web-account", str(account.id), "provisional")
