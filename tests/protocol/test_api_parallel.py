"""Requests at the same instant have one effect: the same one, or the last step of one bascule."""

import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import func, select

from shared import idempotency
from shared.client import ApiError, Opened, StoreClient, Visitor
from shared.idempotency import Answer, Request, UnderWayError
from shared.models import AuditEntry, Credential, LoginSession, WebAccount
from shared.secret import Secret
from shared.store import Store
from tests.api import running
from tests.processes import Place, run_together
from tests.store import PASSWORD, open_session
from tests.web import NIR, WEB_PASSWORD, add_dossier

TOGETHER = 4
ROUNDS = 5


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
