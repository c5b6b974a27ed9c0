"""The HTTP API as the web stack uses it: keys, logins, sessions, repeated requests."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session as Transaction

from shared import apikeys
from shared.api.description import describe
from shared.api.table import ROUTES
from shared.apikeys import Scope
from shared.client import ApiError, Asker, Opened, StoreClient
from shared.models import (
    AuditEntry,
    Credential,
    CredentialState,
    IdempotentRequest,
    LoginSession,
    Message,
    Person,
    Role,
    ThrottleHit,
)
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from tests.api import KEY_LIFE, LOGIN, Api, new_key, running
from tests.store import CAISSE, NUMBER, PASSWORD, FakeClock, add_account, execute, log_in, pay

KEY = "0123456789abcdef"  # an Idempotency-Key
WRONG = "00000000"
ME = Asker(CAISSE, NUMBER, "203.0.113.7")
ASKING = {name: value for name, value in LOGIN.items() if name != "password"}


@pytest.fixture
def api(store: Store, clock: FakeClock) -> Iterator[Api]:
    """The API, in the days when the number logged in on the web (R17)."""
    clock.now = datetime(2021, 10, 1, 9, 30, tzinfo=UTC)
    account_id = add_account(store)
    pay(store, account_id, (clock.now.date().isoformat(), 12_345))
    with running(store) as api:
        yield api


@pytest.fixture
def client(api: Api) -> StoreClient:
    return StoreClient(api.url, api.key)


def count(store: Store, table: type) -> int:
    with store.database.read() as transaction:
        return transaction.scalar(select(func.count()).select_from(table)) or 0


def kind(error: pytest.ExceptionInfo[ApiError]) -> tuple[int, str]:
    return error.value.status, error.value.kind.rpartition(":")[2]


# Logins and sessions


def test_a_person_logs_in_reads_and_logs_out(client: StoreClient) -> None:
    session = client.log_in(ME, Secret(PASSWORD))
    assert not session.must_change_password
    assert client.show_session(session) == {"channel": "web", "must_change_password": False}
    assert client.last_payment(session) == {"paid_on": "2021-10-01", "cents": 12_345}
    client.end_session(session)
    for ask in (client.last_payment, client.show_session, client.end_session):
        with pytest.raises(ApiError) as error:
            ask(session)
        assert kind(error) == (401, "session-over")


@pytest.mark.parametrize("channel", ["web", "app", "kiosk"])
def test_each_channel_is_written_down(store: Store, client: StoreClient, channel: str) -> None:
    client.log_in(Asker(CAISSE, NUMBER, "203.0.113.7", channel), Secret(PASSWORD))
    with store.database.read() as transaction:
        row = transaction.scalars(select(LoginSession)).one()
        events = transaction.execute(select(AuditEntry.channel, AuditEntry.event)).all()
    assert (row.channel, row.client) == (channel, "site-web")
    assert (channel, "login") in [tuple(event) for event in events]


def test_a_refused_login_is_one_problem(client: StoreClient) -> None:
    with pytest.raises(ApiError) as error:
        client.log_in(ME, Secret(WRONG))
    assert kind(error) == (401, "login-refused")


def test_a_right_but_expired_password_is_told_so(store: Store, client: StoreClient) -> None:
    execute(store, lambda t: t.execute(update(Credential).values(expires_at=store.clock())))
    with pytest.raises(ApiError) as error:
        client.log_in(ME, Secret(PASSWORD))
    assert kind(error) == (401, "password-expired")
    with pytest.raises(ApiError) as error:
        client.log_in(ME, Secret(WRONG))
    assert kind(error) == (401, "login-refused")


def test_a_provisional_password_opens_its_change_only(store: Store, client: StoreClient) -> None:
    """R09; on the telephone, where nothing can be changed, it opens what others open."""
    execute(store, lambda t: t.execute(update(Credential).values(provisional=True)))
    session = client.log_in(ME, Secret(PASSWORD))
    assert session.must_change_password
    assert client.show_session(session)["must_change_password"]
    with pytest.raises(ApiError) as error:
        client.last_payment(session)
    assert kind(error) == (403, "password-change-required")
    by_phone = log_in(store)
    assert isinstance(by_phone, Session)
    assert not by_phone.change_only


def test_the_number_logs_in_until_its_last_second_on_the_web(
    client: StoreClient, clock: FakeClock
) -> None:
    """R17, D10: until 2021-10-09 00:00 in Paris."""
    end = datetime(2021, 10, 8, 22, tzinfo=UTC)
    clock.now = end - timedelta(seconds=1)
    client.log_in(ME, Secret(PASSWORD))
    clock.now = end
    with pytest.raises(ApiError) as error:
        client.log_in(ME, Secret(PASSWORD))
    assert kind(error) == (401, "login-refused")


def test_an_address_may_fail_as_often_as_a_caller_id(
    store: Store, api: Api, client: StoreClient
) -> None:
    """D05: 3 accounts with failures a day; another address, or another client's, goes on."""
    for number in ("1000001", "1000002", "1000003"):
        with pytest.raises(ApiError):
            client.log_in(Asker(CAISSE, number, ME.client), Secret(WRONG))
    with pytest.raises(ApiError):
        client.log_in(ME, Secret(PASSWORD))
    client.log_in(Asker(CAISSE, NUMBER, "203.0.113.8"), Secret(PASSWORD))
    StoreClient(api.url, new_key(store, "bornes")).log_in(ME, Secret(PASSWORD))


def test_an_address_is_never_the_caller_id_on_file(store: Store, client: StoreClient) -> None:
    """Else who knows the telephone number would have the owner's own failures (D05)."""
    with pytest.raises(ApiError):
        client.log_in(Asker(CAISSE, NUMBER, "+33612345678"), Secret(WRONG))
    with store.database.read() as transaction:
        assert "account-known" not in transaction.scalars(select(ThrottleHit.bucket)).all()


def test_a_session_is_of_the_client_that_opened_it(
    store: Store, api: Api, client: StoreClient
) -> None:
    session = client.log_in(ME, Secret(PASSWORD))
    other = StoreClient(api.url, new_key(store, "bornes"))
    for ask in (other.last_payment, other.show_session, other.end_session):
        with pytest.raises(ApiError) as error:
            ask(session)
        assert kind(error) == (401, "session-over")
    renewed = StoreClient(api.url, new_key(store))  # the same client, with its next key
    assert renewed.last_payment(session) is not None


def test_a_session_of_the_telephone_is_of_no_client(store: Store, client: StoreClient) -> None:
    session = log_in(store)
    assert isinstance(session, Session)
    with pytest.raises(ApiError) as error:
        client.show_session(Opened(Secret(session.token.hex()), must_change_password=False))
    assert kind(error) == (401, "session-over")


def test_a_person_without_the_right_reads_nothing(store: Store, client: StoreClient) -> None:
    """R29: a session of the conjoint, who has no delegation."""
    session = client.log_in(ME, Secret(PASSWORD))

    def hand_over(transaction: Transaction) -> None:
        account_id = transaction.scalars(select(LoginSession.account_id)).one()
        conjoint = Person(id=uuid4(), account_id=account_id, role=Role.CONJOINT)
        transaction.add(conjoint)
        transaction.flush()
        transaction.execute(update(LoginSession).values(person_id=conjoint.id))

    execute(store, hand_over)
    with pytest.raises(ApiError) as error:
        client.last_payment(session)
    assert kind(error) == (403, "not-allowed")


def test_a_forgotten_password_is_sent(store: Store, client: StoreClient) -> None:
    client.request_password(ME)
    with store.database.read() as transaction:
        assert CredentialState.PENDING in transaction.scalars(select(Credential.state)).all()
        assert [message.route for message in transaction.scalars(select(Message))] == ["sms"]
    client.log_in(ME, Secret(PASSWORD))  # D03: the old one still opens


# Keys


def test_without_a_good_key_nothing_is_answered(store: Store, api: Api, clock: FakeClock) -> None:
    revoked = new_key(store)
    apikeys.revoke(store, revoked.reveal().partition(".")[0])
    refused = {
        "none": "",
        "another scheme": f"Basic {api.key.reveal()}",
        "made up": f"Bearer {'0' * 16}.{'A' * 43}",
        "revoked": f"Bearer {revoked.reveal()}",
    }
    bodies = set()
    for name, header in refused.items():
        reply = api.ask("POST", "/v1/logins", LOGIN, headers=[("Authorization", header)])
        assert (reply.status, reply.problem) == (401, "key-refused"), name
        assert reply.headers["WWW-Authenticate"] == "Bearer"
        bodies.add(reply.body)
    clock.advance(KEY_LIFE)
    expired = api.ask("POST", "/v1/logins", LOGIN, idempotency=KEY)
    assert expired.problem == "key-refused"
    assert bodies == {expired.body}
    assert count(store, ThrottleHit) == count(store, IdempotentRequest) == 0


def test_two_keys_at_once_are_none(api: Api) -> None:
    twice = [("Authorization", f"Bearer {api.key.reveal()}")] * 2
    assert api.ask("POST", "/v1/logins", LOGIN, headers=twice).problem == "key-refused"


# The scope that opens each operation, and what then answers a request with nothing but its key.
SCOPES = {
    ("POST", "/v1/logins"): (Scope.LOGINS, 400),
    ("GET", "/v1/session"): (Scope.SESSIONS, 401),
    ("DELETE", "/v1/session"): (Scope.SESSIONS, 401),
    ("GET", "/v1/session/payments/last"): (Scope.SESSIONS, 401),
    ("POST", "/v1/password-requests"): (Scope.PASSWORDS, 400),
    ("POST", "/v1/session/password"): (Scope.PASSWORDS, 401),
    ("POST", "/v1/session/web-password"): (Scope.PASSWORDS, 401),
    ("POST", "/v1/person-logins"): (Scope.LOGINS, 400),
    ("POST", "/v1/bascule"): (Scope.BASCULE, 400),
    ("POST", "/v1/bascule/terms"): (Scope.BASCULE, 401),
    ("POST", "/v1/bascule/password"): (Scope.BASCULE, 401),
    ("POST", "/v1/bascule/codes"): (Scope.BASCULE, 401),
    ("POST", "/v1/bascule/confirmations"): (Scope.BASCULE, 401),
    ("POST", "/v1/bascule/account"): (Scope.BASCULE, 401),
    ("POST", "/v1/recovery"): (Scope.RECOVERY, 400),
    ("POST", "/v1/recovery/verifications"): (Scope.RECOVERY, 400),
    ("POST", "/v1/recovery/password"): (Scope.RECOVERY, 401),
    ("POST", "/v1/identifiers"): (Scope.RECOVERY, 400),
    ("POST", "/v1/identifier-requests"): (Scope.RECOVERY, 400),
    ("POST", "/v1/agent-tasks"): (Scope.TASKS, 400),
    ("POST", "/v1/messages"): (Scope.MESSAGES, 400),
    ("GET", "/v1/messages/{id}"): (Scope.MESSAGES, 404),
    ("POST", "/v1/messages/{id}/cancel"): (Scope.MESSAGES, 400),
    ("POST", "/v1/opt-outs"): (Scope.OPT_OUTS, 400),
    ("POST", "/v1/opt-outs/remove"): (Scope.OPT_OUTS, 400),
    ("POST", "/v1/codes"): (Scope.CODES, 400),
    ("POST", "/v1/codes/verifications"): (Scope.CODES, 400),
    ("POST", "/v1/campaigns"): (Scope.CAMPAIGNS, 400),
    ("POST", "/v1/campaign-recipients"): (Scope.CAMPAIGNS, 400),
    ("GET", "/v1/campaigns/{id}"): (Scope.CAMPAIGNS, 404),
    ("POST", "/v1/campaigns/{id}/start"): (Scope.CAMPAIGNS, 400),
    ("POST", "/v1/campaigns/{id}/pause"): (Scope.CAMPAIGNS, 400),
    ("POST", "/v1/campaigns/{id}/resume"): (Scope.CAMPAIGNS, 400),
    ("POST", "/v1/campaigns/{id}/cancel"): (Scope.CAMPAIGNS, 400),
    ("GET", "/v1/changes"): (Scope.CHANGES, 422),
    ("POST", "/v1/changes"): (Scope.CHANGES, 400),
    ("GET", "/v1/incidents"): (Scope.INCIDENTS, 200),
    ("POST", "/v1/incidents"): (Scope.INCIDENTS, 400),
    ("POST", "/v1/incidents/lift"): (Scope.INCIDENTS, 400),
    ("POST", "/v1/incidents/void"): (Scope.INCIDENTS, 400),
}


@pytest.mark.parametrize(("operation", "opened"), SCOPES.items())
def test_a_key_opens_what_its_scopes_say(
    store: Store, api: Api, operation: tuple[str, str], opened: tuple[Scope, int]
) -> None:
    (method, path), (scope, status) = operation, opened
    path = path.format(id=UUID(int=1))
    others = new_key(store, "bornes", *(one for one in Scope if one is not scope))
    assert api.ask(method, path, key=others).problem == "scope-lacking"
    assert api.ask(method, path, key=new_key(store, "bornes", scope)).status == status


def test_every_other_route_is_open_to_anybody(api: Api) -> None:
    anybody = [("Authorization", "")]
    assert {(route.method.value, route.path) for route in ROUTES if route.scope} == set(SCOPES)
    assert api.ask("GET", "/v1/health", headers=anybody).json == {"status": "up"}
    described = api.ask("GET", "/v1/openapi.json", headers=anybody)
    assert described.json == json.loads(json.dumps(describe(ROUTES)))


# Repeated requests


def test_a_login_repeated_gives_the_same_session(store: Store, api: Api) -> None:
    first = api.ask("POST", "/v1/logins", LOGIN, idempotency=KEY)
    again = api.ask("POST", "/v1/logins", LOGIN, idempotency=KEY)
    assert first.status == again.status == 201
    assert first.body == again.body
    assert count(store, LoginSession) == 1


def test_a_refused_login_repeated_is_one_failure(store: Store, api: Api) -> None:
    replies = [
        api.ask("POST", "/v1/logins", LOGIN | {"password": WRONG}, idempotency=KEY)
        for _ in range(3)
    ]
    assert {(reply.status, reply.body) for reply in replies} == {(401, replies[0].body)}
    assert replies[2].problem == "login-refused"
    with store.database.read() as transaction:
        assert len(set(transaction.scalars(select(ThrottleHit.attempt_id)))) == 1


def test_a_key_is_not_used_for_another_request(api: Api) -> None:
    api.ask("POST", "/v1/logins", LOGIN, idempotency=KEY)
    others = [
        ("/v1/logins", LOGIN | {"password": WRONG}),
        ("/v1/logins", json.dumps(LOGIN, indent=1)),
        ("/v1/password-requests", ASKING),
    ]
    for path, body in others:
        reply = api.ask("POST", path, body, idempotency=KEY)
        assert (reply.status, reply.problem) == (409, "idempotency-key-reused")


def test_another_client_does_not_get_the_answer(store: Store, api: Api) -> None:
    mine = api.ask("POST", "/v1/logins", LOGIN, idempotency=KEY)
    theirs = api.ask("POST", "/v1/logins", LOGIN, idempotency=KEY, key=new_key(store, "bornes"))
    assert theirs.status == 201
    assert mine.json["session"] != theirs.json["session"]


def test_a_logout_repeated_is_one(api: Api) -> None:
    token = api.ask("POST", "/v1/logins", LOGIN, idempotency=KEY).json["session"]
    ends = [api.ask("DELETE", "/v1/session", session=token, idempotency="f" * 16) for _ in range(2)]
    assert [(end.status, end.body) for end in ends] == [(204, b""), (204, b"")]


@pytest.mark.parametrize("key", [None, "", "short", "k" * 65, "k" * 15 + " ", "clé" * 8])
def test_what_changes_something_needs_a_key(store: Store, api: Api, key: str | None) -> None:
    headers = [] if key is None else [("Idempotency-Key", key)]
    reply = api.ask("POST", "/v1/logins", LOGIN, headers=headers)
    assert (reply.status, reply.problem) == (400, "idempotency-key-missing")
    assert count(store, ThrottleHit) == 0


def test_answers_are_kept_by_nobody_on_the_way(api: Api) -> None:
    for reply in (api.ask("GET", "/v1/health"), api.ask("GET", "/nowhere")):
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["Server"] == "svi"
