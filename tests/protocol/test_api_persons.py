"""Persons on the web: their logins, the bascule, what they forgot, their dossier's password."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import func, select, update

from shared import incident
from shared.client import ApiError, Asker, CivilStatus, Claim, Opened, StoreClient, Visitor
from shared.models import (
    Account,
    AuditEntry,
    Credential,
    LoginSession,
    Person,
    Route,
    ThrottleHit,
    WebAccount,
)
from shared.people import PersonData
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from tests.api import Api, new_key, running
from tests.store import CAISSE, NUMBER, OWNER, PASSWORD, FakeClock, execute, log_in
from tests.web import (
    HUGO,
    HUGO_NIR,
    NIR,
    OTHER_WEB_PASSWORD,
    UNKNOWN_NIR,
    WEB_PASSWORD,
    add_dossier,
    add_person,
    last_code,
    make_web_account,
    sent,
    wrong_code,
)

HERE = Visitor("203.0.113.7")
CHOSEN = Secret(WEB_PASSWORD)
OTHER = Secret(OTHER_WEB_PASSWORD)
DOSSIER = Secret(PASSWORD)
CLAIM = Claim(NIR, "Lefèvre", "sms")
LINH = CivilStatus("Nguyen", "Linh", date(1999, 2, 28))
NEWCOMER = PersonData(
    surname=LINH.surname,
    given_names=LINH.given_names,
    birth_date=LINH.birth_date,
    mobile="+33611223344",
)


@pytest.fixture
def api(store: Store) -> Iterator[Api]:
    """The API after the bascule, with Claire's dossier."""
    add_dossier(store)
    with running(store) as api:
        yield api


@pytest.fixture
def client(api: Api) -> StoreClient:
    return StoreClient(api.url, api.key)


def kind(error: pytest.ExceptionInfo[ApiError]) -> tuple[int, str]:
    return error.value.status, error.value.kind.rpartition(":")[2]


def refused(act: Callable[[], object]) -> tuple[int, str]:
    """Give the problem that something meets."""
    with pytest.raises(ApiError) as error:
        act()
    return kind(error)


def chosen(client: StoreClient) -> Opened:
    """Give the steps of a bascule whose password is chosen."""
    steps = client.begin_bascule(HERE, NIR, DOSSIER)
    client.accept_terms(steps)
    client.choose_password(steps, CHOSEN)
    return steps


# Logins


def test_a_login_opens_every_dossier_the_last_one_first(
    store: Store, client: StoreClient, clock: FakeClock
) -> None:
    """D11: told apart by the caisse and by what is the same the next time."""
    clock.advance(timedelta(days=1))
    add_dossier(store, "7654321")
    execute(
        store,
        lambda t: t.execute(update(Account).where(Account.number == "7654321").values(caisse="92")),
    )
    make_web_account(store)
    opened = client.log_in_person(HERE, NIR, CHOSEN)
    assert [one.caisse for one in opened] == ["92", CAISSE]
    again = client.log_in_person(HERE, NIR, CHOSEN)
    assert [one.dossier for one in again] == [one.dossier for one in opened]
    assert len({one.session.token.reveal() for one in opened + again}) == 4
    for one in opened:
        assert client.last_payment(one.session) is None
        assert NUMBER not in one.dossier
        assert "7654321" not in one.dossier


def test_a_person_without_nir_logs_in_with_the_provisional_identifier(
    store: Store, client: StoreClient, clock: FakeClock
) -> None:
    """R20: asked for, then a password by a code, then the login."""
    add_newcomer(store)
    client.request_first_identifier(Asker(CAISSE, "7777777", HERE.client), LINH)
    identifier = f"P{sent(store)[-1].content['digits']}"
    clock.advance(timedelta(hours=1))
    code_id = client.request_recovery(HERE, Claim(identifier, "Nguyen", "sms"))
    steps = client.verify_recovery(HERE, code_id, last_code(store))
    client.recover_password(steps, CHOSEN)
    [opened] = client.log_in_person(HERE, identifier, CHOSEN)
    assert opened.caisse == CAISSE


def test_a_session_is_of_its_person(store: Store, client: StoreClient) -> None:
    """R29: the conjoint without delegation reads no payment."""
    with store.database.read() as transaction:
        account_id = transaction.scalars(select(Account.id)).one()
    add_person(store, account_id, HUGO)
    make_web_account(store, HUGO_NIR)
    [opened] = client.log_in_person(HERE, HUGO_NIR, CHOSEN)
    assert refused(lambda: client.last_payment(opened.session)) == (403, "not-allowed")


def test_nobody_logs_in_as_a_person_before_the_bascule(
    store: Store, client: StoreClient, clock: FakeClock
) -> None:
    """R18: from 9 October 2021, 00:00 in Paris."""
    make_web_account(store)
    clock.now = datetime(2021, 10, 8, 22, tzinfo=UTC) - timedelta(seconds=1)
    assert refused(lambda: client.log_in_person(HERE, NIR, CHOSEN)) == (401, "login-refused")
    assert refused(lambda: client.begin_bascule(HERE, HUGO_NIR, DOSSIER)) == (401, "login-refused")
    clock.advance(timedelta(seconds=1))
    assert client.log_in_person(HERE, NIR, CHOSEN)


def test_an_incident_closes_it_for_everybody_alike(store: Store, client: StoreClient) -> None:
    """D15; the code that came stays good until it is over."""
    make_web_account(store)
    code_id = client.request_recovery(HERE, CLAIM)
    incident.raise_incident(store, "channel:web")
    for act in (
        lambda: client.log_in_person(HERE, NIR, CHOSEN),
        lambda: client.log_in_person(HERE, UNKNOWN_NIR, CHOSEN),
        lambda: client.begin_bascule(HERE, UNKNOWN_NIR, DOSSIER),
        lambda: client.verify_recovery(HERE, code_id, last_code(store)),
    ):
        assert refused(act) == (503, "closed")
    incident.lift(store, "channel:web")
    assert client.verify_recovery(HERE, code_id, last_code(store))


# The bascule


def test_the_whole_bascule(store: Store, client: StoreClient) -> None:
    steps = chosen(client)
    code_id = client.send_code(steps, "sms")
    assert sent(store)[-1].destination == OWNER
    wrong = wrong_code(store)
    assert refused(lambda: client.confirm_contact(steps, HERE.client, code_id, wrong)) == (
        401,
        "code-refused",
    )
    client.confirm_contact(steps, HERE.client, code_id, last_code(store))
    client.make_account(steps)
    assert client.log_in_person(HERE, NIR, CHOSEN)
    assert refused(lambda: client.begin_bascule(HERE, NIR, DOSSIER)) == (401, "login-refused")
    assert isinstance(log_in(store), Session)  # R19: the telephone keeps number and password


def test_its_steps_open_nothing_else(client: StoreClient) -> None:
    steps = chosen(client)
    assert refused(lambda: client.last_payment(steps)) == (403, "password-change-required")
    assert refused(lambda: client.recover_password(steps, OTHER)) == (401, "session-over")
    assert refused(lambda: client.change_password(steps, Secret("50718264"))) == (
        403,
        "not-allowed",
    )


def test_its_steps_come_one_after_the_other(client: StoreClient) -> None:
    steps = client.begin_bascule(HERE, NIR, DOSSIER)
    missing = (409, "step-missing")
    assert refused(lambda: client.choose_password(steps, CHOSEN)) == missing
    assert refused(lambda: client.send_code(steps, "sms")) == missing
    assert refused(lambda: client.make_account(steps)) == missing


def test_what_a_password_lacks_is_told(client: StoreClient) -> None:
    """R14, and the next try is good."""
    steps = client.begin_bascule(HERE, NIR, DOSSIER)
    client.accept_terms(steps)
    with pytest.raises(ApiError) as error:
        client.choose_password(steps, Secret("été !"))
    assert kind(error) == (422, "password-refused")
    assert error.value.reasons == (
        "forbidden-character",
        "no-digit",
        "no-upper-case",
        "too-short",
    )
    client.choose_password(steps, CHOSEN)


def test_a_contact_that_is_not_on_file_gets_no_code(store: Store, client: StoreClient) -> None:
    execute(store, lambda t: t.execute(update(Person).values(email_sealed=None)))
    assert refused(lambda: client.send_code(chosen(client), "mail")) == (409, "no-contact")


def test_its_steps_are_of_the_client_that_began(
    store: Store, api: Api, client: StoreClient
) -> None:
    steps = chosen(client)
    other = StoreClient(api.url, new_key(store, "bornes"))
    assert refused(lambda: other.make_account(steps)) == (401, "session-over")


def test_who_enters_codes_is_counted_by_the_address(store: Store, client: StoreClient) -> None:
    """D05: without one, all that enter codes on the web would share a bucket."""
    steps = chosen(client)
    code_id = client.send_code(steps, "sms")
    refused(lambda: client.confirm_contact(steps, "198.51.100.9", code_id, wrong_code(store)))
    address = store.keys.index("caller", "client:site-web:198.51.100.9")
    with store.database.read() as transaction:
        counted = transaction.scalars(
            select(ThrottleHit.key).where(ThrottleHit.bucket == "caller")
        ).all()
    assert counted == [address]


# What was forgotten


def test_a_forgotten_password_is_chosen_anew(store: Store, client: StoreClient) -> None:
    make_web_account(store)
    [before] = client.log_in_person(HERE, NIR, CHOSEN)
    code_id = client.request_recovery(HERE, replace(CLAIM, contact="06 12 34 56 78"))
    steps = client.verify_recovery(HERE, code_id, last_code(store))
    with pytest.raises(ApiError) as error:
        client.recover_password(steps, Secret("court"))
    assert (kind(error), "too-short" in error.value.reasons) == ((422, "password-refused"), True)
    client.recover_password(steps, OTHER)
    assert client.log_in_person(HERE, NIR, OTHER)
    assert refused(lambda: client.log_in_person(HERE, NIR, CHOSEN)) == (401, "login-refused")
    assert refused(lambda: client.last_payment(before.session)) == (401, "session-over")
    assert refused(lambda: client.recover_password(steps, CHOSEN)) == (401, "session-over")


def test_a_code_is_good_once(store: Store, client: StoreClient) -> None:
    code_id = client.request_recovery(HERE, CLAIM)
    client.verify_recovery(HERE, code_id, last_code(store))
    assert refused(lambda: client.verify_recovery(HERE, code_id, last_code(store))) == (
        401,
        "code-refused",
    )


def test_a_repeated_request_sends_one_code(store: Store, api: Api) -> None:
    body = {
        "identifier": NIR,
        "birth_name": "Lefèvre",
        "route": "mail",
        "channel": "app",
        "client": HERE.client,
    }
    first, again = (api.ask("POST", "/v1/recovery", body, idempotency="f" * 16) for _ in range(2))
    assert (first.status, first.body) == (again.status, again.body)
    assert [message.route for message in sent(store)] == [Route.MAIL]


def test_a_forgotten_identifier_is_sent_again(
    store: Store, client: StoreClient, clock: FakeClock
) -> None:
    add_newcomer(store)
    client.request_first_identifier(Asker(CAISSE, "7777777", HERE.client), LINH)
    clock.advance(timedelta(hours=1))
    client.request_identifier(HERE, replace(LINH, surname="NGUYEN"))
    first, again = sent(store)
    assert (again.destination, again.content) == (NEWCOMER.mobile, first.content)


def test_a_first_identifier_is_answered_alike_and_never_shown(
    store: Store, api: Api, clock: FakeClock
) -> None:
    """D04: for who has a NIR, a number that does not exist, and twice too."""
    add_newcomer(store)
    body = {"caisse": CAISSE, "number": "7777777", "channel": "web", "client": HERE.client}
    body |= {"surname": "Nguyen", "given_names": "Linh", "birth_date": "1999-02-28"}
    claire = {"number": NUMBER, "surname": "Lefèvre", "given_names": "Claire"}
    asked = [{}, {}, {"number": "9999999"}, claire | {"birth_date": "1995-10-07"}]
    replies = [
        api.ask("POST", "/v1/identifiers", body | one, idempotency=f"{at:016}")
        for at, one in enumerate(asked)
    ]
    assert {(reply.status, reply.body) for reply in replies} == {(202, b'{"status":"accepted"}')}
    assert [message.template for message in sent(store)] == ["provisional-identifier"]


def test_an_incident_closes_first_identifiers(store: Store, client: StoreClient) -> None:
    """D15: of the caisse that was named, whatever the number."""
    incident.raise_incident(store, f"caisse:{CAISSE}")
    for number in ("7777777", "9999999"):
        asker = Asker(CAISSE, number, HERE.client)
        assert refused(partial(client.request_first_identifier, asker, LINH)) == (503, "closed")


def add_newcomer(store: Store) -> None:
    """Add somebody without a NIR, in a dossier of her own."""
    add_dossier(store, "7777777", NEWCOMER)


# A person's own password, changed


def test_a_person_changes_the_password_in_an_open_session(
    store: Store, client: StoreClient
) -> None:
    """R07, R14: the one in force is asked for."""
    make_web_account(store)
    [before] = client.log_in_person(HERE, NIR, CHOSEN)
    [opened] = client.log_in_person(HERE, NIR, CHOSEN)
    change = partial(client.change_own_password, opened.session, HERE.client)
    assert refused(lambda: change(OTHER, Secret("Encore2021abc"))) == (
        401,
        "current-password-refused",
    )
    with pytest.raises(ApiError) as error:
        change(CHOSEN, Secret("Court1"))
    assert (kind(error), error.value.reasons) == ((422, "password-refused"), ("too-short",))
    change(CHOSEN, OTHER)
    assert client.last_payment(opened.session) is None
    assert refused(lambda: client.last_payment(before.session)) == (401, "session-over")
    assert refused(lambda: client.log_in_person(HERE, NIR, CHOSEN)) == (401, "login-refused")
    assert client.log_in_person(HERE, NIR, OTHER)


def test_a_change_that_comes_twice_is_done_once(store: Store, api: Api) -> None:
    """The second would else be refused: the password is another one by then."""
    make_web_account(store)
    [opened] = StoreClient(api.url, api.key).log_in_person(HERE, NIR, CHOSEN)
    body = {"current": WEB_PASSWORD, "password": OTHER_WEB_PASSWORD, "client": HERE.client}
    session = opened.session.token.reveal()
    path = "/v1/session/web-password"
    replies = [api.ask("POST", path, body, session=session, idempotency="f" * 16) for _ in range(2)]
    assert [(reply.status, reply.body) for reply in replies] == [(204, b""), (204, b"")]


def test_who_tries_the_current_password_is_counted_by_the_address(
    store: Store, client: StoreClient
) -> None:
    """D05."""
    make_web_account(store)
    [opened] = client.log_in_person(HERE, NIR, CHOSEN)
    refused(lambda: client.change_own_password(opened.session, "198.51.100.9", OTHER, CHOSEN))
    address = store.keys.index("caller", "client:site-web:198.51.100.9")
    with store.database.read() as transaction:
        counted = select(ThrottleHit.key).where(ThrottleHit.bucket == "caller", ThrottleHit.counted)
        assert transaction.scalars(counted).all() == [address]


def test_a_session_of_the_dossier_changes_no_persons_password(
    client: StoreClient, clock: FakeClock
) -> None:
    """D11."""
    clock.now = datetime(2021, 10, 1, 9, 30, tzinfo=UTC)
    session = client.log_in(Asker(CAISSE, NUMBER, HERE.client), DOSSIER)
    change = partial(client.change_own_password, session, HERE.client)
    assert refused(lambda: change(CHOSEN, OTHER)) == (403, "not-allowed")


# The dossier's password


def test_the_owner_changes_the_dossiers_password(
    store: Store, client: StoreClient, clock: FakeClock
) -> None:
    """R07, R09, in the days when the number logged in on the web."""
    clock.now = datetime(2021, 10, 1, 9, 30, tzinfo=UTC)
    execute(store, lambda t: t.execute(update(Credential).values(provisional=True)))
    me = Asker(CAISSE, NUMBER, HERE.client)
    session = client.log_in(me, DOSSIER)
    assert session.must_change_password
    with pytest.raises(ApiError) as error:
        client.change_password(session, Secret("12345678"))
    assert (kind(error), error.value.reasons) == ((422, "password-refused"), ("guessable",))
    client.change_password(session, Secret("50718264"))
    assert client.last_payment(session) is None
    assert refused(lambda: client.log_in(me, DOSSIER)) == (401, "login-refused")
    assert not client.log_in(me, Secret("50718264")).must_change_password


def test_a_persons_session_does_not_change_it(store: Store, client: StoreClient) -> None:
    """D02: from the bascule on « mot de passe oublié » alone replaces it."""
    make_web_account(store)
    [opened] = client.log_in_person(HERE, NIR, CHOSEN)
    assert refused(lambda: client.change_password(opened.session, Secret("50718264"))) == (
        403,
        "not-allowed",
    )


def test_everything_is_written_down(store: Store, client: StoreClient) -> None:
    """D15: who, as which client, where."""
    steps = chosen(client)
    client.make_account(steps)
    client.log_in_person(Visitor(HERE.client, "app"), NIR, CHOSEN)
    with store.database.read() as transaction:
        rows = transaction.execute(
            select(AuditEntry.event, AuditEntry.channel, AuditEntry.actor)
            .where(AuditEntry.channel != "admin")  # the API key
            .order_by(AuditEntry.id)
        ).all()
        channels = set(transaction.scalars(select(LoginSession.channel)))
        accounts = transaction.scalar(select(func.count()).select_from(WebAccount))
    assert [tuple(row) for row in rows] == [
        ("login", "web", "site-web"),
        ("terms-accepted", "web", "site-web"),
        ("web-account-created", "web", "site-web"),
        ("login", "app", "site-web"),
    ]
    assert (channels, accounts) == ({"web", "app"}, 1)
