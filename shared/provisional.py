"""Provisional identifiers: `P` and 8 digits, for a person without a NIR (R20, R22).

One opens a person's account on the web as a NIR does. From the moment that the person's NIR is
known it finds nobody any more, and the first password chosen under the NIR ends its account:
`web_accounts` sees to both.
"""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import structlog
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session as Transaction

from shared import audit, contacts, notices, web_accounts
from shared.contacts import Contact
from shared.credentials import NOBODY
from shared.models import Account, Message, Person, Route, WebAccount
from shared.notices import Notice, Template
from shared.origin import Origin
from shared.people import PersonData, identity_key, open_person
from shared.rules import Identifier
from shared.store import Store
from shared.web_accounts import Holder

DIGITS = 8
DAY = timedelta(days=1)
NOWHERE = Contact(Route.SMS, "")  # what is written, and not sent, for nobody (D04)

log = structlog.get_logger(__name__)


def issue(store: Store, person_id: UUID, origin: Origin) -> bool:
    """Give a person an identifier and send it: the one that the person has, if there is one.

    False for a person whose NIR is known: nothing else logs in (R20).
    """
    now = store.clock()
    with store.database.write() as transaction:
        person = transaction.get_one(Person, person_id, with_for_update={"key_share": True})
        if person.nir_index is not None:
            return False
        web_accounts.lock(store, transaction, person)
        account = _account(store, transaction, person, now)
        notices.queue(store, transaction, _notice(store, person, account, now))
        audit.note(transaction, "provisional-issued", now, origin, person.account_id)
        return True


def remind(store: Store, who: PersonData, origin: Origin) -> None:
    """« Identifiant oublié »: send it again to who has that name and birth date (R22).

    The same statements run for everybody: nobody can tell what a request did (D04). Of homonyms
    born on the same day the one who got an identifier last is meant.
    """
    now, index = store.clock(), store.keys.index("identity", identity_key(who) or "")
    with store.database.write() as transaction:
        store.database.lock(transaction, index)
        found = transaction.execute(
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
        ).first()
        notice = _notice(store, *found, now) if found else _to_nobody(now)
        allowed = _allowed(store, transaction, notice, now)
        wanted = found is not None and allowed
        notices.queue(store, transaction, notice, wanted=wanted)
        event = "provisional-sent" if wanted else "provisional-request-suppressed"
        audit.note(transaction, event, now, origin, notice.account_id)


def _account(store: Store, transaction: Transaction, person: Person, now: datetime) -> WebAccount:
    """Give the person's account, with an identifier."""
    account = web_accounts.account_of(transaction, person)
    if account is None:
        account = WebAccount(id=uuid4(), person_id=person.id, created_at=now)
        transaction.add(account)
    if account.provisional_sealed is None:
        holder = _draw(store, transaction)
        account.provisional_index = holder.index(store.keys)
        account.provisional_sealed = store.keys.seal(holder.value.encode(), *_binding(account))
    return account


def _draw(store: Store, transaction: Transaction) -> Holder:
    """Draw an identifier that nobody has or ever had."""
    store.database.lock(transaction, store.keys.index("lock", "provisional"))
    while True:
        drawn = f"P{store.chance(10**DIGITS):0{DIGITS}}"
        holder = Holder(Identifier.PROVISIONAL, drawn)
        of_others = WebAccount.provisional_index == holder.index(store.keys)
        if transaction.scalar(select(WebAccount.id).where(of_others)) is None:
            return holder


def _notice(store: Store, person: Person, account: WebAccount, now: datetime) -> Notice:
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
        content={"digits": _identifier(store, account).removeprefix("P")},
        expires_at=now + life,
    )


def _identifier(store: Store, account: WebAccount) -> str:
    return store.keys.open(account.provisional_sealed or b"", *_binding(account)).decode()


def _to_nobody(now: datetime) -> Notice:
    return Notice(Template.PROVISIONAL, None, NOWHERE, {"digits": DIGITS * "0"}, now)


def _allowed(store: Store, transaction: Transaction, notice: Notice, now: datetime) -> bool:
    """Count what was sent: D06's limits, those of a forgotten password.

    Every count is made, whatever the first ones say (D04).
    """
    rules = store.rules.reset
    sent = select(func.count()).select_from(Message).where(Message.template == notice.template)
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


def _binding(account: WebAccount) -> tuple[str, ...]:
    return ("web-account", str(account.id), "provisional")
