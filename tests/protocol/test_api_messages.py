"""Messages over HTTP: sent from an installation's own templates, followed, cancelled."""

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from shared import outbox
from shared.apikeys import Scope
from shared.client import ApiError, StoreClient
from shared.models import IdempotentRequest, Message, MessageState
from shared.store import Store
from sms.templates import LONGEST, Templates
from tests.api import Api, Reply, new_key, running
from tests.gateway import MOBILE, MoodyProvider, dispatching, message, until
from tests.store import FakeClock

WHEN = {"jour": "mardi 3 mai", "heure": "9 h 30"}
ORDER: dict[str, Any] = {
    "template": "notice.rendez-vous",
    "to": MOBILE,
    "variables": WHEN,
    "expires_in_minutes": 120,
}
PERSONAL = (MOBILE, MOBILE[3:], *WHEN.values())
numbers = count()


@pytest.fixture
def api(store: Store) -> Iterator[Api]:
    with running(store) as api:
        yield api


def post(api: Api, path: str, body: object = None, name: str | None = None) -> Reply:
    """Ask; the same `name` makes the same Idempotency-Key."""
    return api.ask("POST", path, body, idempotency=(name or str(next(numbers))).zfill(16))


def send(api: Api, **changed: object) -> Reply:
    return post(api, "/v1/messages", ORDER | changed)


def sent(store: Store) -> list[Message]:
    with store.database.read() as transaction:
        return list(transaction.scalars(select(Message)))


def test_it_is_sent_and_followed(api: Api, store: Store) -> None:
    taken = send(api)
    assert taken.status == 202
    message_id = taken.json["id"]
    assert taken.json == {"id": message_id}
    [queued] = sent(store)
    assert (queued.id, queued.client, queued.state) == (UUID(message_id), "site-web", "queued")
    followed = api.ask("GET", f"/v1/messages/{message_id}")
    assert followed.status == 200
    assert followed.json == {
        "id": message_id,
        "template": "notice.rendez-vous",
        "state": "queued",
        "created_at": "2021-11-02T09:30:00Z",
        "expires_at": "2021-11-02T11:30:00Z",
        "ended_at": None,
    }


async def test_what_was_asked_for_arrives(store: Store, clock: FakeClock) -> None:
    provider = MoodyProvider()
    with running(store) as api:
        message_id = send(api, to="06 12 34 56 78").json["id"]
        clock.advance(timedelta(minutes=1))
        async with dispatching(store, provider):
            await until(lambda: message(store, UUID(message_id)).state == MessageState.ACCEPTED)
        followed = api.ask("GET", f"/v1/messages/{message_id}").json
    [asked] = provider.asked
    assert asked.destination == MOBILE
    assert "rendez-vous mardi 3 mai à 9 h 30." in asked.text.reveal()
    assert followed["state"] == "accepted"
    assert followed["ended_at"] == "2021-11-02T09:31:00Z"


def test_one_that_waits_is_cancelled(api: Api, store: Store) -> None:
    message_id = send(api).json["id"]
    cancelled = post(api, f"/v1/messages/{message_id}/cancel")
    assert cancelled.status == 200
    assert (cancelled.json["state"], cancelled.json["ended_at"]) == (
        "cancelled",
        "2021-11-02T09:30:00Z",
    )
    assert api.ask("GET", f"/v1/messages/{message_id}").json == cancelled.json
    assert post(api, f"/v1/messages/{message_id}/cancel").json == cancelled.json
    assert outbox.claim(store, "file", Templates.load().render, 1) == []


def test_one_that_is_being_sent_is_said_to_be_so(api: Api, store: Store) -> None:
    message_id = send(api).json["id"]
    outbox.claim(store, "file", Templates.load().render, 1)
    cancelled = post(api, f"/v1/messages/{message_id}/cancel").json
    assert (cancelled["state"], cancelled["ended_at"]) == ("sending", None)


def test_another_client_s_is_like_none(api: Api, store: Store) -> None:
    """Byte by byte; and it stays."""
    message_id = send(api).json["id"]
    theirs = new_key(store, "bornes", Scope.MESSAGES)
    names = [message_id, str(uuid4()), message_id.upper(), message_id.replace("-", ""), "1", "%20"]
    for method, path in (("GET", "/v1/messages/{}"), ("POST", "/v1/messages/{}/cancel")):
        asked = [
            api.ask(method, path.format(name), key=theirs, idempotency=f"{next(numbers):016}")
            for name in names
        ]
        assert [reply.status for reply in asked] == [404] * len(names)
        assert {reply.body for reply in asked} == {asked[0].body}
    assert message(store, UUID(message_id)).state == MessageState.QUEUED


def test_another_key_of_the_client_follows_it(api: Api, store: Store) -> None:
    message_id = send(api).json["id"]
    second = new_key(store, "site-web", Scope.MESSAGES)
    assert api.ask("GET", f"/v1/messages/{message_id}", key=second).status == 200


def test_the_store_s_own_messages_are_nobody_s(api: Api, store: Store) -> None:
    message_id = send(api).json["id"]
    with store.database.write() as transaction:
        transaction.get_one(Message, UUID(message_id)).client = None
    assert api.ask("GET", f"/v1/messages/{message_id}").status == 404


def test_repeated_it_is_one_message(api: Api, store: Store) -> None:
    first, again = (post(api, "/v1/messages", ORDER, "once") for _ in range(2))
    assert (first.status, first.body) == (again.status, again.body) == (202, first.body)
    other = post(api, "/v1/messages", ORDER | {"to": "+33698765432"}, "once")
    assert (other.status, other.problem) == (409, "idempotency-key-reused")
    cancelled = post(api, f"/v1/messages/{first.json['id']}/cancel", name="once")
    assert (cancelled.status, cancelled.problem) == (409, "idempotency-key-reused")
    assert len(sent(store)) == 1


def test_the_client_sends_follows_and_cancels(api: Api) -> None:
    client = StoreClient(api.url, api.key)
    message_id = client.send_message("notice.rendez-vous", MOBILE, WHEN, 60)
    assert client.message(message_id)["state"] == "queued"
    assert client.cancel_message(message_id)["state"] == "cancelled"
    with pytest.raises(ApiError) as caught:
        client.send_message("notice.rendez-vous", MOBILE, {"jour": "x" * 22}, 60)
    assert caught.value.status == 422
    assert caught.value.reasons == ("too_long", "missing")
    with pytest.raises(ApiError) as caught:
        client.message(str(uuid4()))
    assert caught.value.status == 404


# What is refused


def refused(api: Api, store: Store, body: object) -> list[dict[str, str]]:
    """Ask in vain; give what was wrong. Nothing is queued."""
    reply = post(api, "/v1/messages", body)
    assert (reply.status, reply.problem) == (422, "invalid")
    assert sent(store) == []
    for personal in (*PERSONAL, "Dupont"):
        assert personal.encode() not in reply.body
    faults: list[dict[str, str]] = reply.json["errors"]
    return faults


MOBILES = {
    "E.164": ("+33612345678", "+33612345678"),
    "with spaces": ("+33 6 12 34 56 78", "+33612345678"),
    "a new range": ("+33756781234", "+33756781234"),
    "national": ("0612345678", "+33612345678"),
    "national in pairs": ("06.12.34.56.78", "+33612345678"),
    "Guadeloupe, national": ("0690 12 34 56", "+590690123456"),
    "Guyane": ("+594694123456", "+594694123456"),
    "Martinique, national": ("0696-12-34-56", "+596696123456"),
    "La Réunion, national": ("0692123456", "+262692123456"),
    "Mayotte": ("+262639012345", "+262639012345"),
}


@pytest.mark.parametrize(("given", "to"), MOBILES.values(), ids=MOBILES)
def test_a_french_mobile_is_taken(api: Api, store: Store, given: str, to: str) -> None:
    """D08."""
    assert send(api, to=given).status == 202
    [queued] = sent(store)
    assert outbox.opened(store, queued, "destination") == to


NO_MOBILES = {
    "a landline": "+33142345678",
    "a landline, national": "01 42 34 56 78",
    "over the Internet": "0912345678",
    "a premium number": "0899123456",
    "a service": "+33810292929",
    "Belgium": "+32470123456",
    "the United States": "+12025550123",
    "Monaco": "+37761234567",
    "Nouvelle-Calédonie": "+687751234",
    "a satellite": "+881612345678",
    "no such number": "+33600000000000",
    "a range that is not given out": "0700000000",
}
NO_SHAPES = {
    "too short": "061234567",
    "too long": "061234567890",
    "the prefix in words": "0033612345678",
    "two signs": "++33612345678",
    "a zero in brackets": "+33 (0)6 12 34 56 78",
    "an extension": "0612345678 poste 12",
    "a URI": "tel:+33612345678",
    "letters": "06CAISSE12",
    "a name": "Dupont",
    "two numbers": "0612345678 0698765432",
    "wide digits": "\uff10\uff16\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18",
    "Arabic digits": "+٣٣٦١٢٣٤٥٦٧٨",
    "a line behind": "0612345678\n",
    "a header behind": "0612345678\r\nBcc: +33698765432",
    "NUL": "0612345678\0",
    "a space before": " 0612345678",
    "nothing": "",
    "many digits": "+" + "3" * 10_000,
}


@pytest.mark.parametrize("given", NO_MOBILES.values(), ids=NO_MOBILES)
def test_no_other_number_is_taken(api: Api, store: Store, given: str) -> None:
    """D08; the problem does not repeat it."""
    [fault] = refused(api, store, ORDER | {"to": given})
    assert fault == {"field": "to", "reason": "not_a_french_mobile"}


@pytest.mark.parametrize("given", NO_SHAPES.values(), ids=NO_SHAPES)
def test_what_is_no_number_is_not_taken(api: Api, store: Store, given: str) -> None:
    [fault] = refused(api, store, ORDER | {"to": given})
    assert fault == {"field": "to", "reason": "string_pattern_mismatch"}


WRONG: dict[str, tuple[dict[str, object], str, str]] = {
    "no such template": ({"template": "notice.Dupont"}, "template", "unknown"),
    "an empty name": ({"template": ""}, "template", "unknown"),
    "a path": ({"template": "../Dupont"}, "template", "unknown"),
    "a long name": ({"template": "Dupont" * 11}, "template", "string_too_long"),
    "a number for a template": ({"template": 1}, "template", "string_type"),
    "a list for a template": ({"template": ["notice.rendez-vous"]}, "template", "string_type"),
    "too long": ({"variables": WHEN | {"heure": "Dupont 9"}}, "variables.heure", "too_long"),
    "one missing": ({"variables": {"jour": "lundi"}}, "variables.heure", "missing"),
    "one too many": ({"variables": WHEN | {"Dupont": "1"}}, "variables", "extra_forbidden"),
    "a link": ({"variables": WHEN | {"jour": "dupont.fr"}}, "variables", "link"),
    "an empty one": ({"variables": WHEN | {"jour": ""}}, "variables", "string_too_short"),
    "very long": ({"variables": WHEN | {"jour": "é" * 161}}, "variables", "string_too_long"),
    "two lines": ({"variables": WHEN | {"jour": "a\nb"}}, "variables", "string_pattern_mismatch"),
    "NUL": ({"variables": WHEN | {"jour": "a\0"}}, "variables", "string_pattern_mismatch"),
    "a control of C1": (
        {"variables": WHEN | {"jour": "a\x85"}},
        "variables",
        "string_pattern_mismatch",
    ),
    "a lone surrogate": ({"variables": WHEN | {"jour": "\ud800"}}, "variables", "string_unicode"),
    "a number": ({"variables": WHEN | {"heure": 9}}, "variables", "string_type"),
    "null": ({"variables": WHEN | {"heure": None}}, "variables", "string_type"),
    "a list of them": ({"variables": ["lundi", "9 h"]}, "variables", "dict_type"),
    "one within another": ({"variables": WHEN | {"jour": {"a": "b"}}}, "variables", "string_type"),
    "a number for a mobile": ({"to": 33612345678}, "to", "string_type"),
    "two mobiles": ({"to": [MOBILE, MOBILE]}, "to", "string_type"),
    "no time": ({"expires_in_minutes": 0}, "expires_in_minutes", "greater_than_equal"),
    "before now": ({"expires_in_minutes": -5}, "expires_in_minutes", "greater_than_equal"),
    "more than a day": ({"expires_in_minutes": 1441}, "expires_in_minutes", "too_long"),
    "for ever": ({"expires_in_minutes": 10**400}, "expires_in_minutes", "too_long"),
    "a fraction": ({"expires_in_minutes": 1.5}, "expires_in_minutes", "int_type"),
    "a text for a time": ({"expires_in_minutes": "60"}, "expires_in_minutes", "int_type"),
    "yes for a time": ({"expires_in_minutes": True}, "expires_in_minutes", "int_type"),
}


@pytest.mark.parametrize(("changed", "field", "reason"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(
    api: Api, store: Store, changed: dict[str, object], field: str, reason: str
) -> None:
    assert refused(api, store, ORDER | changed) == [{"field": field, "reason": reason}]


@pytest.mark.parametrize("template", LONGEST)
def test_passwords_and_codes_are_the_store_s_alone(api: Api, store: Store, template: str) -> None:
    order = ORDER | {"template": template, "variables": LONGEST[template]}
    assert refused(api, store, order) == [{"field": "template", "reason": "unknown"}]


@pytest.mark.parametrize("name", ORDER)
def test_nothing_may_be_left_out(api: Api, store: Store, name: str) -> None:
    body = {key: value for key, value in ORDER.items() if key != name}
    assert refused(api, store, body) == [{"field": name, "reason": "missing"}]


@pytest.mark.parametrize(
    "more", [{"text": "Dupont"}, {"sender": "Dupont"}, {"priority": 0}, {"client": "Dupont"}]
)
def test_there_is_no_more_to_choose(api: Api, store: Store, more: dict[str, object]) -> None:
    """Text, sender and priority are the template's; whose message it is, the key says."""
    assert refused(api, store, ORDER | more) == [{"reason": "extra_forbidden"}]


def test_a_template_without_variables_takes_none(api: Api) -> None:
    assert send(api, template="notice.message-a-lire", variables={}).status == 202


def test_the_longest_life_is_taken(api: Api, store: Store) -> None:
    assert send(api, expires_in_minutes=1440).status == 202
    [queued] = sent(store)
    assert queued.expires_at - queued.created_at == timedelta(days=1)


@pytest.mark.parametrize("size", [16 * 1024 + 1, 10_000_000])
def test_a_large_body_is_not_read(api: Api, store: Store, size: int) -> None:
    headers = [("Content-Type", "application/json"), ("Content-Length", str(size))]
    reply = api.ask("POST", "/v1/messages", idempotency="0" * 16, headers=headers)
    assert reply.status == 413
    assert sent(store) == []


def test_many_variables_are_one_fault(api: Api, store: Store) -> None:
    many = {f"Dupont{n}": "x" for n in range(500)}
    faults = refused(api, store, ORDER | {"variables": WHEN | many})
    assert faults == [{"field": "variables", "reason": "extra_forbidden"}]


def test_a_name_twice_is_no_order(api: Api, store: Store) -> None:
    twice = json.dumps(ORDER)[:-1] + f', "to": "{MOBILE}"}}'
    assert post(api, "/v1/messages", twice).problem == "not-json"
    assert sent(store) == []


def test_a_message_is_named_in_the_path_alone(api: Api) -> None:
    path = f"/v1/messages/{send(api).json['id']}"
    for asked, body in ((f"{path}?x=1", None), (path, {})):
        reply = api.ask("GET", asked, body)
        assert (reply.status, reply.problem) == (400, "no-body-expected")


def test_a_refusal_keeps_no_answer_of_a_wrong_shape(api: Api, store: Store) -> None:
    """What can't be read is no request, and its key may be used for another."""
    post(api, "/v1/messages", ORDER | {"to": "Dupont"}, "key")
    with store.database.read() as transaction:
        assert transaction.scalar(select(func.count()).select_from(IdempotentRequest)) == 0
    assert post(api, "/v1/messages", ORDER, "key").status == 202


def test_nothing_of_a_message_is_logged(
    api: Api, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    message_id = send(api).json["id"]
    send(api, variables=WHEN | {"heure": "9 h 30 précises"})
    send(api, to="0142345678")
    api.ask("GET", f"/v1/messages/{message_id}")
    post(api, f"/v1/messages/{message_id}/cancel")
    captured = capsys.readouterr()
    logged = captured.out + captured.err + caplog.text
    assert "POST /v1/messages/{id}/cancel" in logged  # else this would show nothing
    assert [one for one in (*PERSONAL, "42345678", message_id) if one in logged] == []
