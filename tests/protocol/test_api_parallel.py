"""Requests at the same instant have one effect: the same one, or the last step of one bascule.

And a message that is cancelled at the instant of its sending is either.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select

from shared import client_messages, idempotency, outbox
from shared.api.messages import ROUTES, MessageRequest
from shared.api.operation import Incoming, perform
from shared.api.problems import ProblemError
from shared.api.routes import Call
from shared.client import ApiError, Opened, StoreClient, Visitor
from shared.client_messages import Order
from shared.idempotency import Answer, Request, UnderWayError
from shared.models import AuditEntry, Credential, LoginSession, Message, SendAttempt, WebAccount
from shared.secret import Secret
from shared.store import Store
from sms.templates import Templates
from tests.api import running
from tests.gateway import MOBILE
from tests.processes import Place, run_together
from tests.store import PASSWORD, open_session
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
    call = Call(store, Templates.load().judge, CLIENT)
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
        client_messages.send(shop, CLIENT, order)
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
