"""Incidents over HTTP: what the command does, with a key that may (D15)."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count

import pytest
from sqlalchemy import select

from shared.apikeys import Scope
from shared.client import ApiError, StoreClient, Window
from shared.models import AuditEntry, Incident
from shared.store import Store
from tests.api import LOGIN, Api, Reply, new_key, running
from tests.store import CAISSE, NUMBER, FakeClock, log_in
from tests.web import NIR, UNKNOWN_NIR, add_dossier, make_web_account, sent

START = datetime.fromisoformat("2021-10-01T09:30:00Z")  # the number logs in on the web (R17)
WINDOW = {"start": "2021-10-01T09:00:00Z", "end": "2021-10-01T10:00:00Z"}
PATHS = ["/v1/incidents", "/v1/incidents/lift", "/v1/incidents/void"]
numbers = count()


@pytest.fixture
def api(store: Store, clock: FakeClock) -> Iterator[Api]:
    clock.now = START
    add_dossier(store)
    with running(store) as api:
        yield api


def post(api: Api, path: str, body: object, name: str | None = None) -> Reply:
    """Ask; the same `name` makes the same Idempotency-Key."""
    return api.ask("POST", path, body, idempotency=(name or str(next(numbers))).zfill(16))


def audited(store: Store) -> list[tuple[str, str, str | None]]:
    """Give event, channel and actor of what happened to incidents."""
    with store.database.read() as transaction:
        rows = transaction.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    events = {"incident-raised", "incident-lifted", "voided"}
    return [(row.event, row.channel, row.actor) for row in rows if row.event in events]


def test_the_service_is_closed_and_opened_again(api: Api, store: Store) -> None:
    session = post(api, "/v1/logins", LOGIN).json["session"]
    assert api.ask("GET", "/v1/incidents").json == {"incidents": []}
    assert post(api, "/v1/incidents", {"scope": "service"}).json == {"result": "closed"}
    assert api.ask("GET", "/v1/incidents").json == {
        "incidents": [{"scope": "service", "since": "2021-10-01T09:30:00Z"}]
    }
    over = api.ask("GET", "/v1/session", session=session)
    assert (over.status, over.problem) == (401, "session-over")
    refused = post(api, "/v1/logins", LOGIN)
    assert (refused.status, refused.problem) == (503, "closed")
    assert post(api, "/v1/incidents/lift", {"scope": "service"}).json == {"result": "opened"}
    assert post(api, "/v1/logins", LOGIN).status == 201
    assert audited(store) == [
        ("incident-raised", "admin", "site-web:service"),
        ("incident-lifted", "admin", "site-web:service"),
    ]


@pytest.mark.parametrize("scope", ["channel:voice", "channel:kiosk", "caisse:92", "caisse:2A"])
def test_each_scope_is_closed_once(api: Api, store: Store, scope: str) -> None:
    """Whether the request is repeated, or made anew by somebody else."""
    body = {"scope": scope}
    assert post(api, "/v1/incidents/lift", body).json == {"result": "not-closed"}
    assert post(api, "/v1/incidents", body, "once").json == {"result": "closed"}
    assert post(api, "/v1/incidents", body, "once").json == {"result": "closed"}
    assert post(api, "/v1/incidents", body).json == {"result": "already-closed"}
    with store.database.read() as transaction:
        assert transaction.scalars(select(Incident.scope)).all() == [scope]


@pytest.mark.parametrize("path", PATHS)
def test_it_takes_a_scope_of_its_own(api: Api, store: Store, path: str) -> None:
    """No key of a site can close the service."""
    others = [scope for scope in Scope if scope is not Scope.INCIDENTS]
    body = WINDOW if path.endswith("void") else {"scope": "service"}
    key = new_key(store, "site-web", *others)
    refused = api.ask("POST", path, body, key=key, idempotency="0" * 16)
    assert (refused.status, refused.problem) == (403, "scope-lacking")
    listed = api.ask("GET", "/v1/incidents", key=key)
    assert (listed.status, listed.problem) == (403, "scope-lacking")
    assert audited(store) == []


BAD_SCOPES = {
    "nothing": {},
    "none": {"scope": None},
    "empty": {"scope": ""},
    "a number": {"scope": 1},
    "a list": {"scope": ["service"]},
    "in capitals": {"scope": "SERVICE"},
    "with a line end": {"scope": "service\n"},
    "no channel": {"scope": "channel:"},
    "a channel where nobody logs in": {"scope": "channel:admin"},
    "a caisse that there is not": {"scope": "caisse:20"},
    "a caisse and more": {"scope": "caisse:92 OR 1=1"},
    "another field": {"scope": "service", "until": "2021-10-01T10:00:00Z"},
}


@pytest.mark.parametrize("body", BAD_SCOPES.values(), ids=BAD_SCOPES.keys())
@pytest.mark.parametrize("path", PATHS[:2])
def test_what_is_no_scope_changes_nothing(
    api: Api, store: Store, path: str, body: dict[str, object]
) -> None:
    refused = post(api, path, body)
    assert (refused.status, refused.problem) == (422, "invalid")
    assert audited(store) == []


BAD_WINDOWS: dict[str, dict[str, object]] = {
    "no end": {"start": WINDOW["start"]},
    "empty": {**WINDOW, "end": WINDOW["start"]},
    "ends before it begins": {"start": WINDOW["end"], "end": WINDOW["start"]},
    "not over yet": {**WINDOW, "end": "2021-10-01T21:00:00Z"},
    "no time zone": {**WINDOW, "start": "2021-10-01T09:00:00"},
    "another time zone": {**WINDOW, "start": "2021-10-01T09:00:00+02:00"},
    "no day of the calendar": {**WINDOW, "start": "2021-09-31T09:00:00Z"},
    "a number": {**WINDOW, "start": 1633078800},
    "a channel where nobody logs in": {**WINDOW, "channel": "admin"},
    "no caisse": {**WINDOW, "caisse": "00"},
    "another field": {**WINDOW, "scope": "service"},
}


@pytest.mark.parametrize("body", BAD_WINDOWS.values(), ids=BAD_WINDOWS.keys())
def test_what_is_no_window_takes_nothing_back(
    api: Api, store: Store, clock: FakeClock, body: dict[str, object]
) -> None:
    log_in(store)
    clock.advance(timedelta(hours=1))
    refused = post(api, "/v1/incidents/void", body)
    assert (refused.status, refused.problem) == (422, "invalid")
    assert audited(store) == []


def change(store: Store, clock: FakeClock, api: Api) -> None:
    """Read the dossier, have its password replaced, and do what only a person can look at."""
    session = post(api, "/v1/logins", LOGIN).json["session"]
    assert api.ask("GET", "/v1/session/payments/last", session=session).status == 200
    assert post(api, "/v1/password-requests", _asking(NUMBER)).status == 202
    clock.advance(timedelta(hours=1))


def _asking(number: str) -> dict[str, str]:
    return {"caisse": CAISSE, "number": number, "channel": "web", "client": "203.0.113.7"}


def test_a_window_is_taken_back(api: Api, store: Store, clock: FakeClock) -> None:
    """As by the command: how many, whom to tell, what is left for a person; twice the same."""
    change(store, clock, api)
    voided = post(api, "/v1/incidents/void", WINDOW)
    assert voided.status == 200
    assert voided.json["counts"] == {
        "undone": 0,
        "revoked": 0,
        "replaced": 1,
        "ended-before": 0,
        "by-hand": 1,
    }
    [person] = voided.json["people"]
    assert person == {
        "caisse": CAISSE,
        "number": NUMBER,
        "role": "allocataire",
        "read": True,
        "changed": True,
        "first": "2021-10-01T09:30:00Z",
        "last": "2021-10-01T09:30:00Z",
    }
    assert voided.json["left"] == [
        {"caisse": "", "number": "", "event": "api-key-added", "at": "2021-10-01T09:30:00Z"}
    ]
    assert post(api, "/v1/incidents/void", WINDOW).json == voided.json
    assert {actor.rpartition(":")[0] for _, _, actor in audited(store) if actor} == {
        "site-web:audit"
    }
    with store.database.read() as transaction:
        last = transaction.scalars(
            select(AuditEntry)
            .where(AuditEntry.event == "password-issued")
            .order_by(AuditEntry.id.desc())
        ).first()
    assert last is not None
    assert (last.channel, last.actor) == ("admin", "site-web")


@pytest.mark.parametrize(
    "narrower",
    [{"channel": "voice"}, {"caisse": "92"}, {"start": "2021-10-01T09:30:00.000001Z"}],
    ids=["another channel", "another caisse", "it began later"],
)
def test_what_lies_outside_the_window_stays(
    api: Api, store: Store, clock: FakeClock, narrower: dict[str, str]
) -> None:
    change(store, clock, api)
    voided = post(api, "/v1/incidents/void", WINDOW | narrower).json
    assert voided["counts"]["replaced"] == 0
    assert voided["people"] == []


def test_who_had_chosen_a_password_before_is_not_listed(
    api: Api, store: Store, clock: FakeClock
) -> None:
    """R39."""
    clock.now = datetime.fromisoformat("2021-10-10T18:00:00Z")
    make_web_account(store)
    clock.now = datetime.fromisoformat("2021-10-10T20:00:00Z")
    post(api, "/v1/password-requests", _asking(NUMBER))
    window = {"start": "2021-10-10T19:00:00Z", "end": "2021-10-11T06:00:00Z"}
    clock.now = datetime.fromisoformat(window["end"])
    assert len(post(api, "/v1/incidents/void", window).json["people"]) == 1
    body = window | {"except_password_changed_before": window["start"]}
    assert post(api, "/v1/incidents/void", body).json["people"] == []


def test_the_client_closes_opens_and_takes_back(api: Api, store: Store, clock: FakeClock) -> None:
    client = StoreClient(api.url, api.key)
    change(store, clock, api)
    assert client.raise_incident("caisse:92") is True
    assert client.raise_incident("caisse:92") is False
    assert [one["scope"] for one in client.incidents()] == ["caisse:92"]
    report = client.void(Window(START, START + timedelta(minutes=1), channel="web"), START)
    assert report["counts"]["replaced"] == 1
    assert [one["number"] for one in report["people"]] == [NUMBER]
    assert client.lift_incident("caisse:92") is True
    assert client.lift_incident("caisse:92") is False
    with pytest.raises(ApiError) as caught:
        client.raise_incident("channel:admin")
    assert caught.value.status == 422


PERSON = {"channel": "web", "client": "203.0.113.7"}
STATUS = {"given_names": "Claire", "birth_date": "1995-10-07"}
RECOVERY = PERSON | {"birth_name": "Lefèvre", "route": "sms"}

# What is asked for, of who is on file and of who is not.
CLOSED = {
    "/v1/password-requests": (_asking(NUMBER), _asking("9999999")),
    "/v1/recovery": (RECOVERY | {"identifier": NIR}, RECOVERY | {"identifier": UNKNOWN_NIR}),
    "/v1/identifiers": (
        PERSON | STATUS | {"surname": "Lefèvre", "caisse": CAISSE, "number": NUMBER},
        PERSON | STATUS | {"surname": "Petit", "caisse": CAISSE, "number": "9999999"},
    ),
    "/v1/identifier-requests": (
        PERSON | STATUS | {"surname": "Lefèvre"},
        PERSON | STATUS | {"surname": "Petit"},
    ),
}


@pytest.mark.parametrize(("path", "bodies"), CLOSED.items(), ids=CLOSED.keys())
@pytest.mark.parametrize("scope", ["service", "channel:web"])
def test_nothing_is_sent_while_it_is_closed(
    api: Api,
    store: Store,
    clock: FakeClock,
    *,
    scope: str,
    path: str,
    bodies: tuple[dict[str, str], dict[str, str]],
) -> None:
    """D15: whoever asks for whomever is told so, byte by byte the same (D04)."""
    clock.advance(timedelta(days=29))  # persons log in with their NIR
    post(api, "/v1/incidents", {"scope": scope})
    known, unknown = (post(api, path, body) for body in bodies)
    assert (known.status, known.problem) == (503, "closed")
    assert (known.status, known.body) == (unknown.status, unknown.body)
    assert sent(store) == []
