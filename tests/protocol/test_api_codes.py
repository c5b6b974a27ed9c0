"""Codes over HTTP: a client has a contact confirmed, and never sees the code (R15)."""

import logging
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select

from shared import incident
from shared.apikeys import Scope
from shared.client import ApiError, StoreClient, Visitor
from shared.models import IdempotentRequest, Message, Route, ThrottleHit, VerificationCode
from shared.store import Store
from tests.api import Api, Reply, new_key, running
from tests.gateway import MOBILE, MoodyProvider, dispatching, until
from tests.store import FakeClock, watch
from tests.web import MAIL, last_code, sent, wrong_code

FROM: dict[str, object] = {"channel": "web", "client": "203.0.113.7"}
ASKED: dict[str, Any] = FROM | {"purpose": "rendez-vous", "to": MOBILE}
BY_MAIL: dict[str, object] = FROM | {"purpose": "rendez-vous", "mail": MAIL}
CODES, VERIFICATIONS = "/v1/codes", "/v1/codes/verifications"
CODE_ID = re.compile(rb'(?<="code_id":")[0-9a-f-]{36}(?=")')
numbers = count()


@pytest.fixture
def api(store: Store) -> Iterator[Api]:
    with running(store) as api:
        yield api


def post(api: Api, path: str, body: object, **more: Any) -> Reply:
    return api.ask("POST", path, body, idempotency=f"{next(numbers):016}", **more)


def entry(code_id: str, code: str, **changed: object) -> dict[str, object]:
    return FROM | {"purpose": "rendez-vous", "code_id": code_id, "code": code} | changed


def rows(store: Store) -> list[int]:
    """Count what a request may leave."""
    tables = (VerificationCode, Message, ThrottleHit, IdempotentRequest)
    with store.database.read() as transaction:
        return [
            transaction.scalar(select(func.count()).select_from(table)) or 0 for table in tables
        ]


async def test_what_comes_is_right(store: Store) -> None:
    provider = MoodyProvider()
    with running(store) as api:
        asked = post(api, CODES, ASKED | {"to": "06 12 34 56 78"})
        assert asked.status == 202
        assert asked.json.keys() == {"code_id"}
        async with dispatching(store, provider):
            await until(lambda: provider.asked)
        [message] = provider.asked
        assert message.destination == MOBILE
        code = "".join(re.findall(r"code est (\d{3}) (\d{3}),", message.text.reveal())[0])
        checked = post(api, VERIFICATIONS, entry(asked.json["code_id"], code))
        assert (checked.status, checked.body) == (204, b"")
        again = post(api, VERIFICATIONS, entry(asked.json["code_id"], code))
        assert (again.status, again.problem) == (401, "code-refused")


def test_by_mail_it_is_compared_in_small_letters(api: Api, store: Store) -> None:
    """So that a contact has one count (R15)."""
    for written in (MAIL, "Claire@Exemple.FR", MAIL.upper()):
        assert post(api, CODES, BY_MAIL | {"mail": written}).status == 202
    assert [(one.route, one.destination) for one in sent(store)] == [(Route.MAIL, MAIL)] * 3
    for _ in range(2):
        assert post(api, CODES, BY_MAIL).status == 202
    assert len(sent(store)) == 4


def test_the_client_asks_and_checks(api: Api, store: Store, clock: FakeClock) -> None:
    client, visitor = StoreClient(api.url, api.key), Visitor("203.0.113.7")
    for contact in ({"to": MOBILE}, {"mail": MAIL}):
        clock.advance(timedelta(seconds=1))  # so that it is known which code was sent last
        code_id = client.request_code(visitor, "rendez-vous", **contact)
        with pytest.raises(ApiError) as caught:
            client.check_code(visitor, "rendez-vous", code_id, wrong_code(store))
        assert (caught.value.status, caught.value.kind.rpartition(":")[2]) == (401, "code-refused")
        client.check_code(visitor, "rendez-vous", code_id, last_code(store))


def test_repeated_it_is_one_code(api: Api, store: Store) -> None:
    first, again = (api.ask("POST", CODES, ASKED, idempotency="k" * 16) for _ in range(2))
    assert (first.status, first.body) == (again.status, again.body)
    assert len(sent(store)) == 1


def test_it_needs_a_scope_of_its_own(api: Api, store: Store) -> None:
    others = new_key(store, "agenda", *(scope for scope in Scope if scope is not Scope.CODES))
    for path, body in ((CODES, ASKED), (VERIFICATIONS, entry(str(uuid4()), "000000"))):
        refused = post(api, path, body, key=others)
        assert (refused.status, refused.problem) == (403, "scope-lacking")
    assert rows(store) == [0, 0, 0, 0]


def test_while_an_incident_stands(api: Api, store: Store) -> None:
    incident.raise_incident(store, "channel:web")
    assert post(api, CODES, ASKED).problem == "closed"
    assert post(api, VERIFICATIONS, entry(str(uuid4()), "000000")).problem == "closed"
    assert post(api, CODES, ASKED | {"channel": "app"}).status == 202


# What can be told (D04)


def as_sent(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    """Give all of a reply but what is drawn for each."""
    headers = {name: value for name, value in reply.headers.items() if name != "Date"}
    return reply.status, headers, CODE_ID.sub(b"drawn", reply.body)


def test_one_too_many_is_answered_like_the_first(api: Api, store: Store) -> None:
    seen = watch(store.database)
    first, asked_first = as_sent(post(api, CODES, ASKED)), seen.copy()
    for _ in range(6):
        seen.clear()
        assert as_sent(post(api, CODES, ASKED)) == first
        assert seen == asked_first
    assert len(sent(store)) == 4


def unsent(api: Api, store: Store) -> dict[str, object]:
    for _ in range(4):
        post(api, CODES, ASKED)
    return entry(post(api, CODES, ASKED).json["code_id"], last_code(store).reveal())


def wrong(api: Api, store: Store) -> dict[str, object]:
    asked = post(api, CODES, ASKED)
    return entry(asked.json["code_id"], wrong_code(store).reveal())


def used(api: Api, store: Store) -> dict[str, object]:
    right = entry(post(api, CODES, ASKED).json["code_id"], last_code(store).reveal())
    assert post(api, VERIFICATIONS, right).status == 204
    return right


def too_late(api: Api, store: Store) -> dict[str, object]:
    right = entry(post(api, CODES, ASKED).json["code_id"], last_code(store).reveal())
    assert isinstance(store.clock, FakeClock)
    store.clock.advance(timedelta(minutes=10))
    return right


def for_another_purpose(api: Api, store: Store) -> dict[str, object]:
    asked = post(api, CODES, ASKED)
    return entry(asked.json["code_id"], last_code(store).reveal(), purpose="paiement")


def another_client_s(api: Api, store: Store) -> dict[str, object]:
    asked = post(api, CODES, ASKED, key=new_key(store, "bornes", Scope.CODES))
    return entry(asked.json["code_id"], last_code(store).reveal())


@pytest.mark.parametrize(
    "enter", [unsent, wrong, used, too_late, for_another_purpose, another_client_s]
)
def test_refusals_look_alike(
    api: Api, store: Store, enter: Callable[[Api, Store], dict[str, object]]
) -> None:
    seen = watch(store.database)
    unknown = as_sent(post(api, VERIFICATIONS, entry(str(uuid4()), "000000")))
    asked_of_unknown = seen.copy()
    body = enter(api, store)
    seen.clear()
    assert as_sent(post(api, VERIFICATIONS, body)) == unknown
    assert seen == asked_of_unknown


# Clients' mistakes

WRONG: dict[str, tuple[dict[str, object], dict[str, str]]] = {
    "no contact": (FROM | {"purpose": "a"}, {"reason": "not_one_contact"}),
    "two contacts": (ASKED | {"mail": MAIL}, {"reason": "not_one_contact"}),
    "none of two": (ASKED | {"to": None, "mail": None}, {"reason": "not_one_contact"}),
    "a landline": (ASKED | {"to": "0142345678"}, {"field": "to", "reason": "not_a_french_mobile"}),
    "Belgium": (ASKED | {"to": "+32470123456"}, {"field": "to", "reason": "not_a_french_mobile"}),
    "no number": (ASKED | {"to": "Dupont"}, {"field": "to", "reason": "string_pattern_mismatch"}),
    "no purpose": (FROM | {"to": MOBILE}, {"field": "purpose", "reason": "missing"}),
    "another field": (ASKED | {"code": "123456"}, {"reason": "extra_forbidden"}),
    "the telephone": (
        ASKED | {"channel": "voice"},
        {"field": "channel", "reason": "literal_error"},
    ),
    **{
        f"the purpose {purpose[:5]!r}": (
            ASKED | {"purpose": purpose},
            {"field": "purpose", "reason": reason},
        )
        for purpose, reason in (
            ("", "string_pattern_mismatch"),
            ("Dupont", "string_pattern_mismatch"),
            ("a b", "string_pattern_mismatch"),
            ("a:b", "string_pattern_mismatch"),
            ("é", "string_pattern_mismatch"),
            ("a\n", "string_pattern_mismatch"),
            ("a" * 41, "string_pattern_mismatch"),
        )
    },
    **{
        f"the address {address[:12]!r}…": (
            BY_MAIL | {"mail": address},
            {"field": "mail", "reason": reason},
        )
        for address, reason in (
            ("", "string_pattern_mismatch"),
            ("dupont", "string_pattern_mismatch"),
            ("dupont@exemple", "string_pattern_mismatch"),
            ("dup ont@exemple.fr", "string_pattern_mismatch"),
            ("<dupont@exemple.fr>", "string_pattern_mismatch"),
            ('"dupont"@exemple.fr', "string_pattern_mismatch"),
            ("dupont@exemple.fr\n", "string_pattern_mismatch"),
            ("dupont@exemple.fr\r\nBcc: a@b.fr", "string_pattern_mismatch"),
            ("dupont@exemple.fr,a@b.fr", "string_pattern_mismatch"),
            ("dupönt@exemple.fr", "string_pattern_mismatch"),
            ("dupont@exemple.fr\0", "string_pattern_mismatch"),
            ("d" * 300 + "@exemple.fr", "string_too_long"),
        )
    },
}


@pytest.mark.parametrize(("body", "fault"), WRONG.values(), ids=WRONG)
def test_a_client_s_mistake_leaves_nothing(
    api: Api, store: Store, body: dict[str, object], fault: dict[str, str]
) -> None:
    reply = post(api, CODES, body)
    assert (reply.status, reply.problem) == (422, "invalid")
    assert reply.json["errors"] == [fault]
    for theirs in (MOBILE, MAIL, "upont", "0142345678"):
        assert theirs.encode() not in reply.body
    assert rows(store) == [0, 0, 0, 0]


NO_ENTRIES: dict[str, tuple[dict[str, object], str]] = {
    "five digits": ({"code": "12345"}, "code"),
    "a space": ({"code": "123 456"}, "code"),
    "a number": ({"code": 123456}, "code"),
    "wide digits": ({"code": "\uff11" * 6}, "code"),
    "no id": ({"code_id": "1"}, "code_id"),
    "no purpose": ({"purpose": ""}, "purpose"),
}


@pytest.mark.parametrize(("changed", "field"), NO_ENTRIES.values(), ids=NO_ENTRIES)
def test_what_is_no_entry_counts_as_none(
    api: Api, store: Store, changed: dict[str, object], field: str
) -> None:
    reply = post(api, VERIFICATIONS, entry(str(uuid4()), "123456") | changed)
    assert (reply.status, reply.problem) == (422, "invalid")
    assert [fault["field"] for fault in reply.json["errors"]] == [field]
    assert rows(store) == [0, 0, 0, 0]


def test_nothing_of_a_code_is_logged(
    api: Api,
    store: Store,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    code_id = post(api, CODES, ASKED).json["code_id"]
    post(api, CODES, BY_MAIL)
    post(api, CODES, ASKED | {"to": "0142345678"})
    post(api, VERIFICATIONS, entry(code_id, "000000"))
    codes = [one.content["code"] for one in sent(store)]
    captured = capsys.readouterr()
    logged = captured.out + captured.err + caplog.text
    assert "POST /v1/codes/verifications" in logged  # else this would show nothing
    personal = (MOBILE[3:], MAIL, "42345678", code_id, "203.0.113.7", *codes)
    assert [one for one in personal if one in logged] == []
