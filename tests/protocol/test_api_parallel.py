"""Requests at the same instant have one effect: the same one, or the last step of one bascule.

And a message that is cancelled at the instant of its sending is either.
"""

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from signal import SIGKILL
from typing import Any
from unittest import mock
from uuid import UUID

import pytest
from sqlalchemy import Connection, func, select

from shared import client_messages, idempotency, outbox
from shared.api.messages import ROUTES, MessageRequest
from shared.api.operation import Incoming, perform
from shared.api.problems import ProblemError
from shared.api.routes import Call
from shared.client import ApiError, Opened, StoreClient, Visitor
from shared.client_messages import Order
from shared.database import Database
from shared.errors import StoreDownError
from shared.idempotency import Answer, Request, UnderWayError
from shared.models import AuditEntry, Credential, LoginSession, Message, SendAttempt, WebAccount
from shared.retention import tidy
from shared.secret import Secret
from shared.store import Store
from sms.campaign_texts import CampaignTexts
from sms.templates import Templates
from tests.api import LONG, running
from tests.gateway import MOBILE, send_for
from tests.processes import Place, run_together
from tests.store import PASSWORD, FakeClock, open_session
from tests.web import NIR, WEB_PASSWORD, add_dossier

TOGETHER = 4
ROUNDS = 5
CLIENT = "agenda"
MESSAGE = {"template": "notice.message-a-lire", "to": MOBILE, "variables": {}}
MESSAGES = 60


def log_in_once(store: Store, rank: int) -> list[bytes]:
    """Ask for so many logins, each until it is answered; give the tokens answered."""

    def log_in() -> Answer:
        return Answer(201, open_session(store).token)

    def ask(number: int) -> bytes:
        request = Request("site-web", f"{number:016}", "POST /v1/logins")
        while True:
            try:
                return idempotency.once(store, request, log_in).body
            except UnderWayError:
                time.sleep(0.01)

    return [ask(number) for number in range(ROUNDS)]


def test_processes_that_ask_at_once_get_one_answer(place: Place, shop: Store) -> None:
    answers = run_together(place, TOGETHER, log_in_once)
    assert answers == [answers[0]] * TOGETHER
    assert len(set(answers[0])) == ROUNDS
    with shop.database.read() as transaction:
        assert transaction.scalar(select(func.count()).select_from(LoginSession)) == ROUNDS


def send_once(store: Store, rank: int) -> list[bytes]:
    """Ask for so many messages, each until it is answered; give the answers."""
    call = Call(store, CampaignTexts.load(), CLIENT)
    body = MessageRequest.model_validate(MESSAGE | {"expires_in_minutes": 60})

    def ask(number: int) -> bytes:
        while True:
            try:
                return perform(ROUTES[0], Incoming(call, body, f"{number:016}", "the same")).body
            except ProblemError:  # it is being done
                time.sleep(0.01)

    return [ask(number) for number in range(ROUNDS)]


def test_processes_that_send_at_once_send_one_message(place: Place, shop: Store) -> None:
    answers = run_together(place, TOGETHER, send_once)
    assert answers == [answers[0]] * TOGETHER
    assert len(set(answers[0])) == ROUNDS
    with shop.database.read() as transaction:
        assert transaction.scalar(select(func.count()).select_from(Message)) == ROUNDS


def die_before_the_answer_is_kept(place: Place) -> None:
    """Queue a message for a request, in a process of its own, and be killed."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), SIGKILL)

    def work() -> None:
        with closing(place.open()) as store, mock.patch.object(idempotency, "_keep", die):
            perform(ROUTES[0], asked(store))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(LONG)
    assert process.exitcode == -SIGKILL


def asked(store: Store, key: str = "k" * 16, content: str = "the same") -> Incoming:
    body = MessageRequest.model_validate(MESSAGE | {"expires_in_minutes": 60})
    return Incoming(Call(store, CampaignTexts.load(), CLIENT), body, key, content)


def sent(store: Store) -> list[str]:
    """Give the messages that there are, as an answer names them."""
    with store.database.read() as transaction:
        ids = transaction.scalars(select(Message.id))
        return [f'{{"id":"{one}"}}' for one in ids]


def test_who_is_killed_before_the_answer_has_sent_the_message_once(
    place: Place, shop: Store
) -> None:
    """Between the two commits, of the message and of its answer."""
    die_before_the_answer_is_kept(place)
    [message] = sent(shop)
    with pytest.raises(ProblemError, match="idempotency-in-progress"):
        perform(ROUTES[0], asked(shop))
    assert isinstance(shop.clock, FakeClock)
    shop.clock.advance(idempotency.LEASE)
    for _ in range(2):
        assert perform(ROUTES[0], asked(shop)).body.decode() == message
    assert sent(shop) == [message]


def test_a_commit_whose_outcome_nobody_knows_is_one_message(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database went away as it committed: the request is free again, and is repeated."""
    begin, put = Database.begin, client_messages.put
    lost: list[Connection] = []

    @contextmanager
    def begin_and_lose(self: Database) -> Iterator[Connection]:
        with begin(self) as transaction:
            yield transaction
        if transaction in lost:
            raise StoreDownError

    def put_and_lose(store: Store, transaction: Connection, drafts: Any) -> None:
        put(store, transaction, drafts)
        lost.append(transaction)

    with monkeypatch.context() as lossy:
        lossy.setattr(Database, "begin", begin_and_lose)
        lossy.setattr(client_messages, "put", put_and_lose)
        with pytest.raises(StoreDownError):
            perform(ROUTES[0], asked(store))
    [message] = sent(store)
    assert perform(ROUTES[0], asked(store)).body.decode() == message
    assert sent(store) == [message]


OTHERS = {
    "another key": {"key": "l" * 16},
    "another request, once the key is free": {"content": "another"},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_request_is_another_message(
    store: Store, clock: FakeClock, other: dict[str, str]
) -> None:
    first = perform(ROUTES[0], asked(store)).body
    clock.advance(idempotency.KEPT)
    tidy(store)
    assert perform(ROUTES[0], asked(store)).body == first
    clock.advance(idempotency.KEPT)
    tidy(store)
    assert perform(ROUTES[0], asked(store, **other)).body != first
    assert len(sent(store)) == 2


def test_another_client_s_is_another_message(store: Store) -> None:
    ours = asked(store)
    theirs = replace(ours, call=replace(ours.call, client="bornes"))
    assert perform(ROUTES[0], ours).body != perform(ROUTES[0], theirs).body
    assert len(sent(store)) == 2


def cancel_or_take(store: Store, rank: int) -> dict[UUID, str]:
    """Cancel every message, and say what each was then; or take them as a dispatcher does."""
    if rank:
        while outbox.claim(store, "file", Templates.load().render, 1):
            pass
        return {}
    with store.database.read() as transaction:
        queued = transaction.scalars(select(Message.id).order_by(Message.id.desc())).all()
    told = {one: client_messages.cancel(store, CLIENT, one) for one in queued}
    return {one: message.state for one, message in told.items() if message is not None}


def test_a_message_cancelled_at_the_instant_of_its_sending_is_either(
    place: Place, shop: Store
) -> None:
    """What was told of it holds: cancelled, nobody has it; being sent, it is not tried again."""
    order = Order("notice.message-a-lire", MOBILE, {}, timedelta(hours=1))
    for _ in range(MESSAGES):
        send_for(shop, CLIENT, order)
    told = run_together(place, 2, cancel_or_take)[0]
    with shop.database.read() as transaction:
        messages = transaction.scalars(select(Message)).all()
        taken = set(transaction.scalars(select(SendAttempt.message_id)))
    assert {message.id: message.state for message in messages} == told
    assert {one for one, state in told.items() if state == "sending"} == taken
    assert set(told.values()) <= {"cancelled", "sending"}
    assert all(message.expires_at <= shop.clock() for message in messages if message.id in taken)


def test_of_all_that_finish_a_bascule_at_once_one_makes_the_account(store: Store) -> None:
    """R18: each person does it once, in however many windows; some press the key twice."""
    add_dossier(store)
    here = Visitor("203.0.113.7")
    with running(store) as api:
        client = StoreClient(api.url, api.key)

        def chosen() -> Opened:
            steps = client.begin_bascule(here, NIR, Secret(PASSWORD))
            client.accept_terms(steps)
            client.choose_password(steps, Secret(WEB_PASSWORD))
            return steps

        def finish(steps: Opened) -> int:
            try:
                client.make_account(steps)
            except ApiError as error:
                return error.status
            return 204

        windows = [chosen(), chosen()]
        with ThreadPoolExecutor(6) as pool:
            statuses = list(pool.map(finish, windows * 3))
        assert sorted(statuses) == [204] + [401] * 5
        assert client.log_in_person(here, NIR, Secret(WEB_PASSWORD))
    made = select(func.count()).where(AuditEntry.event == "web-account-created")
    with store.database.read() as transaction:
        assert transaction.scalar(select(func.count()).select_from(WebAccount)) == 1
        assert transaction.scalar(made) == 1
        of_web = select(Credential.state).where(Credential.web_account_id.is_not(None))
        assert transaction.scalars(of_web).all() == ["active"]
