"""Agents' requests over HTTP: the same effect as a file, and a scope of their own (R09)."""

from collections.abc import Iterator

import pytest

from shared.apikeys import Scope
from shared.client import Done, Dossier, StoreClient
from shared.store import Store
from tests.api import Api, Reply, new_key, running
from tests.letters import messages
from tests.store import CAISSE, NUMBER, add_account

HERE = Dossier(CAISSE, NUMBER)
TASK = {"task": "nims-1", "kind": "password", "caisse": CAISSE, "number": NUMBER}


@pytest.fixture
def api(store: Store) -> Iterator[Api]:
    add_account(store)
    with running(store) as api:
        yield api


def ask(api: Api, name: str, **changed: str) -> Reply:
    """Send a task; `name` makes the Idempotency-Key."""
    return api.ask("POST", "/v1/agent-tasks", TASK | changed, idempotency=name.zfill(16))


def test_a_task_is_done_once_whatever_its_idempotency_key(api: Api, store: Store) -> None:
    assert ask(api, "1").json == {"task": "nims-1", "answer": "done", "reason": None}
    assert ask(api, "1").json == ask(api, "2").json
    assert len(messages(store)) == 1


def test_agents_may_know_what_came_of_it(api: Api) -> None:
    agents = StoreClient(api.url, api.key)
    assert agents.do_task("nims-1", "password", HERE, "au guichet") == Done("done", None)
    unknown = agents.do_task("nims-2", "password", Dossier(CAISSE, "7654321"))
    assert unknown == Done("unknown-account", None)
    assert agents.do_task("nims-3", "password", HERE) == Done("refused", "too-often")
    assert agents.do_task("nims-4", "first-letters", HERE) == Done("refused", "has-password")


def test_another_task_with_the_same_id_is_a_conflict(api: Api, store: Store) -> None:
    ask(api, "1")
    other = ask(api, "2", number="7654321")
    assert (other.status, other.problem) == (409, "task-reused")
    assert len(messages(store)) == 1


def test_it_takes_the_agents_scope(api: Api, store: Store) -> None:
    """A site's key must not learn which numbers exist (D04)."""
    key = new_key(store, "site-web", *(scope for scope in Scope if scope is not Scope.TASKS))
    refused = api.ask("POST", "/v1/agent-tasks", TASK, key=key, idempotency="1".zfill(16))
    assert (refused.status, refused.problem) == (403, "scope-lacking")
    assert messages(store) == []
