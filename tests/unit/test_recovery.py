"""« Mot de passe oublié » on the web (R12, R13): a stranger learns and ends nothing (D04)."""

from dataclasses import replace
from datetime import date
from uuid import UUID

import pytest

from shared import bascule, dossier, recovery, web_accounts
from shared.credentials import Refusal
from shared.errors import SessionEndedError
from shared.models import Route
from shared.people import PersonData
from shared.recovery import Claim
from shared.rules import Channel, Identifier
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from shared.web_accounts import Holder
from shared.web_passwords import Fault
from tests.store import OWNER, SECOND, FakeClock, log_in, watch
from tests.web import (
    CLAIM,
    CLAIRE,
    HOLDER,
    HUGO,
    MAIL,
    OPENING,
    OTHER_WEB_PASSWORD,
    UNKNOWN_NIR,
    WEB_PASSWORD,
    add_dossier,
    add_person,
    last_code,
    make_web_account,
    recovering,
    sent,
    web,
    web_login,
    wrong_code,
)

NEW = Secret(OTHER_WEB_PASSWORD)


def ask(store: Store, claim: Claim = CLAIM, address: str = "203.0.113.7") -> UUID:
    return recovery.request(store, claim, web(address))


def logs_in(store: Store, password: str) -> bool:
    return isinstance(web_accounts.verify(store, web_login(password), web("192.0.2.9")), tuple)


# The owner


def test_a_code_lets_the_person_choose_a_new_password(store: Store) -> None:
    add_dossier(store)
    make_web_account(store)
    session = recovering(store)
    assert recovery.choose_password(store, session, Secret("court")) >= {Fault.TOO_SHORT}
    assert logs_in(store, WEB_PASSWORD)
    assert recovery.choose_password(store, session, NEW) == frozenset()
    assert logs_in(store, OTHER_WEB_PASSWORD)
    assert not logs_in(store, WEB_PASSWORD)


def test_the_persons_other_sessions_end(store: Store) -> None:
    add_dossier(store)
    make_web_account(store)
    sessions = web_accounts.verify(store, web_login(), web())
    assert isinstance(sessions, tuple)
    recovery.choose_password(store, recovering(store), NEW)
    with pytest.raises(SessionEndedError):
        dossier.last_payment(store, sessions[0])


def test_the_telephones_password_stays(store: Store) -> None:
    add_dossier(store)
    make_web_account(store)
    recovery.choose_password(store, recovering(store), NEW)
    assert isinstance(log_in(store), Session)


def test_who_is_locked_out_gets_in_by_a_code(store: Store) -> None:
    """Five wrong passwords are what sends people here: the new one is good at once."""
    add_dossier(store)
    make_web_account(store)
    for tried in range(5):
        web_accounts.verify(store, web_login("Faux12345abc"), web(f"198.51.100.{tried}"))
    assert not logs_in(store, WEB_PASSWORD)
    recovery.choose_password(store, recovering(store), NEW)
    assert logs_in(store, OTHER_WEB_PASSWORD)


def test_who_has_no_account_yet_gets_one(store: Store) -> None:
    """R12, R20: the bascule's password may be what was forgotten."""
    add_dossier(store)
    recovery.choose_password(store, recovering(store), NEW)
    assert logs_in(store, OTHER_WEB_PASSWORD)
    assert bascule.begin(store, HOLDER.value, Secret("83927415"), web()) is Refusal.REFUSED
    assert sorted(message.template for message in sent(store)) == ["code", "web-account-created"]


def test_what_a_code_opens_is_good_once(store: Store) -> None:
    add_dossier(store)
    session = recovering(store)
    recovery.choose_password(store, session, NEW)
    with pytest.raises(SessionEndedError):
        recovery.choose_password(store, session, Secret(WEB_PASSWORD))


def test_what_a_code_opens_is_no_bascule_and_no_login(store: Store) -> None:
    add_dossier(store)
    session = recovering(store)
    with pytest.raises(SessionEndedError):
        bascule.accept_terms(store, session)
    with pytest.raises(SessionEndedError):
        dossier.last_payment(store, session)


# Where the code goes: to contacts on file (R13, D04)

BEFORE = "+33698765432"
CHANGED = replace(CLAIRE, mobile_since=date(2021, 10, 30), mobile_before=BEFORE)
UNTRUSTED_MAIL = replace(CLAIRE, email_since=date(2021, 10, 30))

SENDINGS = {
    "by SMS": (CLAIRE, CLAIM, OWNER),
    "by mail": (CLAIRE, replace(CLAIM, route=Route.MAIL), MAIL),
    "the mobile as people write it": (CLAIRE, replace(CLAIM, contact="06 12 34 56 78"), OWNER),
    "the address in capitals": (
        CLAIRE,
        replace(CLAIM, route=Route.MAIL, contact=" Claire@Exemple.fr"),
        MAIL,
    ),
    "the name without accent": (CLAIRE, replace(CLAIM, birth_name="LEFEVRE"), OWNER),
    "another mobile": (CLAIRE, replace(CLAIM, contact="06 98 76 54 32"), None),
    "no telephone number": (CLAIRE, replace(CLAIM, contact="0612"), None),
    "the mobile for a mail": (CLAIRE, replace(CLAIM, route=Route.MAIL, contact=OWNER), None),
    "another name": (CLAIRE, replace(CLAIM, birth_name="Petit"), None),
    "no name": (CLAIRE, replace(CLAIM, birth_name=""), None),
    "a dossier without name": (replace(CLAIRE, surname=None), replace(CLAIM, birth_name=""), None),
    "no mobile on file": (replace(CLAIRE, mobile=None), CLAIM, None),
    "a mobile changed lately: the one before": (
        CHANGED,
        replace(CLAIM, contact="06 12 34 56 78"),
        BEFORE,
    ),
    "a mobile changed lately, and none before": (replace(CHANGED, mobile_before=None), CLAIM, None),
    "a mail address changed lately": (UNTRUSTED_MAIL, replace(CLAIM, route=Route.MAIL), None),
    "another NIR": (CLAIRE, replace(CLAIM, holder=Holder(Identifier.NIR, UNKNOWN_NIR)), None),
    "a number for a NIR": (
        CLAIRE,
        replace(CLAIM, holder=Holder(Identifier.PROVISIONAL, HOLDER.value)),
        None,
    ),
}


@pytest.mark.parametrize(("owner", "claim", "destination"), SENDINGS.values(), ids=SENDINGS)
def test_where_the_code_goes(
    store: Store, owner: PersonData, claim: Claim, destination: str | None
) -> None:
    add_dossier(store, owner=owner)
    ask(store, claim)
    assert [one.destination for one in sent(store)] == ([destination] if destination else [])


def test_it_goes_to_the_person_not_to_the_household(store: Store) -> None:
    add_person(store, add_dossier(store), HUGO)
    ask(store, Claim(Holder(Identifier.NIR, HUGO.nir or ""), "Petit", Route.SMS))
    assert [one.destination for one in sent(store)] == [HUGO.mobile]


@pytest.mark.parametrize("channel", [Channel.WEB, Channel.APP])
def test_it_opens_with_the_web_accounts(store: Store, clock: FakeClock, channel: Channel) -> None:
    add_dossier(store)
    clock.now = OPENING - SECOND
    recovery.request(store, CLAIM, web(channel=channel))
    assert sent(store) == []
    clock.now = OPENING
    recovery.request(store, CLAIM, web(channel=channel))
    assert len(sent(store)) == 1


# A stranger


STRANGERS = {
    "unknown NIR": replace(CLAIM, holder=Holder(Identifier.NIR, UNKNOWN_NIR)),
    "another name": replace(CLAIM, birth_name="Petit"),
    "another contact": replace(CLAIM, contact="06 98 76 54 32"),
}


@pytest.mark.parametrize("claim", STRANGERS.values(), ids=STRANGERS)
def test_no_request_can_be_told_from_another(store: Store, claim: Claim) -> None:
    add_dossier(store)
    make_web_account(store)
    seen = watch(store.database)
    ask(store)
    right = seen.copy()
    seen.clear()
    code_id = ask(store, claim)
    assert seen == right
    seen.clear()
    assert recovery.verify(store, code_id, last_code(store), web()) is None
    wrong = seen.copy()
    code_id = ask(store)
    seen.clear()
    assert recovery.verify(store, code_id, wrong_code(store), web()) is None
    assert seen == wrong


def test_a_strangers_request_ends_nothing(store: Store) -> None:
    """D03: whoever knows NIR, name and contact can make a telephone ring, and no more."""
    add_dossier(store)
    make_web_account(store)
    sessions = web_accounts.verify(store, web_login(), web())
    assert isinstance(sessions, tuple)
    for tried in range(10):
        code_id = ask(store, address=f"198.51.100.{tried}")
        wrong = wrong_code(store)
        recovery.verify(store, code_id, wrong, web(f"198.51.100.{tried}"))
    assert dossier.last_payment(store, sessions[0]) is None
    assert logs_in(store, WEB_PASSWORD)
    assert isinstance(log_in(store), Session)


def test_a_strangers_request_takes_the_owner_no_code(store: Store) -> None:
    add_dossier(store)
    make_web_account(store)
    code_id = ask(store)
    code = last_code(store)
    for tried in range(3):
        strangers = ask(store, address=f"198.51.100.{tried}")
        for _ in range(5):
            recovery.verify(store, strangers, wrong_code(store), web(f"198.51.100.{tried}"))
    session = recovery.verify(store, code_id, code, web())
    assert session is not None
    assert recovery.choose_password(store, session, NEW) == frozenset()


def test_repr_hides_what_was_given() -> None:
    shown = repr(replace(CLAIM, contact=OWNER))
    assert "Lefèvre" not in shown
    assert OWNER not in shown
    assert HOLDER.value not in shown
