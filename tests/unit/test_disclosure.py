"""Access and erasure: all that is held on a dossier, and its end (D16)."""

import json
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from shared import campaigns, disclosure, dossier, feed, inbound, outbox, web_accounts
from shared.campaigns import Plan
from shared.contacts import Contact
from shared.credentials import Refusal
from shared.errors import SessionEndedError
from shared.inbound import Keyword, Word
from shared.models import (
    Account,
    AuditEntry,
    Credential,
    CredentialState,
    DossierSection,
    InboundMessage,
    Message,
    MessageState,
    OptOut,
    Person,
    Route,
    WebAccount,
)
from shared.outbox import Report, Result
from shared.people import PersonData, open_person
from shared.resets import request_password
from shared.store import Store
from sms.templates import Templates
from tests.campaigns import PLAN, REUNION, draft, messages, started, states
from tests.store import (
    CAISSE,
    NUMBER,
    OWNER,
    STRANGER,
    FakeClock,
    log_in,
    open_session,
    pay,
)
from tests.web import (
    HUGO,
    HUGO_MOBILE,
    HUGO_NIR,
    MAIL,
    NIR,
    WEB_PASSWORD,
    add_dossier,
    add_person,
    make_web_account,
    web,
    web_login,
)

OTHER_NUMBER = "7654321"
RENDER = Templates.load().render
PERSONAL = ("Lefèvre", "Claire", "1995-10-07", NIR, OWNER, MAIL, "Petit", "Hugo", HUGO_NIR,
            HUGO_MOBILE)  # fmt: skip


def _fill(store: Store) -> None:
    account_id = add_dossier(store)
    add_person(store, account_id, HUGO)
    make_web_account(store)
    pay(store, account_id, ("2021-11-02", 1234))
    dossier.last_payment(store, open_session(store))
    request_password(store, CAISSE, NUMBER, web())
    _say_stop(store, OWNER)


def _say_stop(store: Store, mobile: str) -> None:
    contact = Contact(Route.SMS, mobile)
    inbound.take(store, Word("smpp", None, contact, "36180", Keyword.STOP))


def _exported(store: Store) -> dict[str, Any]:
    text = disclosure.export(store, CAISSE, NUMBER)
    assert text is not None
    data: dict[str, Any] = json.loads(text)
    return data


def test_an_export_holds_what_is_known_and_no_secret(store: Store) -> None:
    _fill(store)
    add_dossier(store, OTHER_NUMBER, PersonData(surname="Autre"), password=None)
    text = json.dumps(_exported(store), ensure_ascii=False)
    for known in (*PERSONAL, NUMBER, "1234"):
        assert known in text
    for hidden in ("Autre", OTHER_NUMBER, WEB_PASSWORD, "argon2"):
        assert hidden not in text


def test_an_export_names_every_kind_of_thing(store: Store) -> None:
    _fill(store)
    data = _exported(store)
    assert {name: bool(found) for name, found in data.items()} == {
        "dossier": True,
        "personnes": True,
        "comptes_web": True,
        "secrets": True,
        "messages": True,
        "refus_de_campagnes": True,
        "sms_recus": True,
        "codes": False,
        "connexions": True,
        "rubriques": True,
        "journal": True,
    }
    assert "read-export" in {entry["quoi"] for entry in data["journal"]}
    assert {secret["nature"] for secret in data["secrets"]} == {"password", "web-password"}


def test_there_is_nothing_to_export_or_erase_of_an_unknown_number(store: Store) -> None:
    assert disclosure.export(store, CAISSE, NUMBER) is None
    assert disclosure.erase(store, CAISSE, NUMBER) is False


def test_after_erasure_nobody_is_left_and_nothing_opens(store: Store) -> None:
    _fill(store)
    session = open_session(store)
    for _ in range(2):  # twice is the same
        assert disclosure.erase(store, CAISSE, NUMBER)
        with store.database.read() as transaction:
            people = transaction.scalars(select(Person)).all()
            assert [asdict(open_person(store.keys, one)) for one in people] == [
                asdict(PersonData())
            ] * 2
            states = set(transaction.scalars(select(Credential.state)))
            texts = transaction.scalars(select(Message.content_sealed)).all()
            messages = transaction.scalars(select(Message)).all()
            (web_account,) = transaction.scalars(select(WebAccount))
        assert states == {CredentialState.ENDED}
        assert [one.destination_sealed or one.destination_index for one in messages] == [
            None for _ in messages
        ]
        assert set(texts) == {None}
        assert (web_account.nir_index, web_account.ended_at is None) == (None, False)
    assert log_in(store) is Refusal.REFUSED
    assert web_accounts.verify(store, web_login(), web()) is Refusal.REFUSED
    text = disclosure.export(store, CAISSE, NUMBER)
    assert text is not None
    assert [known for known in PERSONAL if known in text] == []
    with store.database.read() as transaction:
        assert transaction.scalars(select(DossierSection)).all() == []
        events = set(transaction.scalars(select(AuditEntry.event)))
    assert {"dossier-erased", "read-payments"} <= events
    with pytest.raises(SessionEndedError):
        dossier.last_payment(store, session)


def test_what_people_wrote_is_forgotten_but_not_that_they_want_no_campaign(store: Store) -> None:
    """D16, R24; what others wrote stays."""
    _fill(store)
    _say_stop(store, STRANGER)
    disclosure.erase(store, CAISSE, NUMBER)
    with store.database.read() as transaction:
        words = transaction.scalars(select(InboundMessage.contact_index)).all()
        opted_out = set(transaction.scalars(select(OptOut.contact_index)))
        replies = transaction.execute(
            select(Message.state, Message.destination_index)
            .where(Message.template == "inbound.36180.stop")
            .order_by(Message.state)
        ).all()
    owner, stranger = (Contact(Route.SMS, one).index(store.keys) for one in (OWNER, STRANGER))
    assert words == [stranger]
    assert opted_out == {owner, stranger}
    assert replies == [("queued", stranger), ("replaced", None)]


def test_after_erasure_no_campaign_writes_to_its_contacts(store: Store, clock: FakeClock) -> None:
    """R24: neither what waits nor what is tried, which a STOP still finds by its index."""
    add_dossier(store)
    waiting = draft(store, [OWNER, REUNION], Plan("attend", Route.SMS, PLAN.template))
    tried = started(store, [OWNER])
    campaigns.feed(store)
    [claim] = outbox.claim(store, "moody", RENDER, 1)
    assert claim.destination == OWNER
    disclosure.erase(store, CAISSE, NUMBER)
    assert states(store, waiting) == {MessageState.REPLACED: 1, MessageState.HELD: 1}
    index = Contact(Route.SMS, OWNER).index(store.keys)
    assert [one.destination_index for one in messages(store, tried)] == [index]
    outbox.finish(store, claim, Report(Result.RETRY, "429"), 0)
    clock.advance(timedelta(minutes=1))
    outbox.recover(store)
    assert campaigns.feed(store) == 0
    assert states(store, tried) == {MessageState.EXPIRED: 1}
    for one in (*messages(store, tried), *messages(store, waiting)):
        if one.state != MessageState.HELD:
            assert one.content_sealed is one.text_sealed is one.destination_sealed is None
    assert [one.destination_index for one in messages(store, waiting) if one.ended_at] == [None]


def test_the_web_stack_hears_of_it_once(store: Store) -> None:
    """R04: also of a dossier that nothing opened any more, and after the end of what did."""
    _fill(store)
    add_dossier(store, OTHER_NUMBER, password=None)
    for number in (NUMBER, OTHER_NUMBER, NUMBER):
        disclosure.erase(store, CAISSE, number)
    told = [(one.number, one.event, one.kind, one.why) for one in feed.since(store, 0)]
    assert told[-4:] == [
        (NUMBER, "ended", "password", "erased"),
        (NUMBER, "ended", "password", "erased"),  # the one on its way
        (NUMBER, "erased", "dossier", None),
        (OTHER_NUMBER, "erased", "dossier", None),
    ]


def test_a_person_keeps_the_web_account_for_another_dossier(store: Store) -> None:
    _fill(store)
    add_dossier(store, OTHER_NUMBER, password=None)
    disclosure.erase(store, CAISSE, NUMBER)
    opened = web_accounts.verify(store, web_login(), web())
    assert isinstance(opened, tuple)
    (session,) = opened
    with store.database.read() as transaction:
        assert transaction.get_one(Account, session.account_id).number == OTHER_NUMBER


def test_every_personal_column_is_erased() -> None:
    """What is not a person's place in the dossier tells who the person is."""
    columns = set(Person.__table__.columns.keys())
    assert columns - set(disclosure.PERSONAL) == {"id", "account_id", "role", "delegated_at"}
