"""Agents' requests: a provisional password for somebody at the desk (R09, NIMS).

An agent's request is not a stranger's: its answer may say what came of it, and it has a limit of
its own instead of D06's. It is done once however often it comes: what it did and its answer are one
transaction.
"""

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session as Transaction

from shared import resets
from shared.clock import DAY
from shared.errors import StoreError
from shared.letters import first_time
from shared.lives import PHONE_LOGIN
from shared.models import Account, AgentTask, Credential, CredentialOrigin, CredentialState, Route
from shared.origin import Origin
from shared.resets import Terms
from shared.rules import Channel
from shared.store import Store


class Kind(StrEnum):
    """What an agent may ask for."""

    PASSWORD = "password"  # noqa: S105 - a provisional one, by SMS or else by post (R09)
    FIRST_LETTERS = "first-letters"  # number and password of a first claim on paper (R25)


class Answer(StrEnum):
    """What came of it; all but the first changed nothing."""

    DONE = "done"
    UNKNOWN_ACCOUNT = "unknown-account"
    TOO_OFTEN = "too-often"  # `agents.account_day`
    LETTER_UNDER_WAY = "letter-under-way"  # not repeated for `reset.letter_days` (D03)
    HAS_PASSWORD = "has-password"  # noqa: S105 - not a first-time claimant
    TELEPHONE_CLOSED = "telephone-closed"  # nothing would be opened by it (D10)


@dataclass(frozen=True)
class Task:
    """What an agent asks for, with the agents' system's own id; repr hides for whom."""

    id: str
    kind: Kind
    caisse: str
    number: str = field(repr=False)
    reason: str | None = field(repr=False)


class OtherTaskError(StoreError):
    """Another request came with this id before."""


class _DoneBeforeError(Exception):
    """The same request was answered before."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


def do(store: Store, task: Task, client: str) -> Answer:
    """Do what an agent asks for, or give the answer it got before; OtherTaskError."""
    request = _Request(store, task)
    terms = (
        first_time.terms(request.decide)
        if task.kind is Kind.FIRST_LETTERS
        else Terms(CredentialOrigin.AGENT, provisional=True, decide=request.decide)
    )
    origin = Origin(Channel.AGENT, client=f"{client}:{task.id}")
    try:
        resets.issue(store, task.caisse, task.number, origin, terms)
    except _DoneBeforeError as error:
        return error.answer
    return request.answer


class _Request:
    """One request while it is done; `answer` holds once it is committed."""

    answer: Answer

    def __init__(self, store: Store, task: Task) -> None:
        self._store = store
        self._task = task
        self._mac = store.keys.index("agent-task", json.dumps(asdict(task), sort_keys=True))

    def decide(self, transaction: Transaction, account: Account | None, route: Route) -> bool:
        """Answer the request, in the transaction that does it: this is resets' `Decide`."""
        task, now = self._task, self._store.clock()
        self._store.database.lock(transaction, self._store.keys.index("lock/agent-task", task.id))
        earlier = transaction.get(AgentTask, task.id)
        if earlier is not None and earlier.request_mac != self._mac:
            raise OtherTaskError("another request has this id")
        if earlier is not None:
            raise _DoneBeforeError(Answer(earlier.answer))
        self.answer = self._judge(transaction, account, route, now)
        wanted = self.answer is Answer.DONE
        if account is not None and wanted and task.kind is Kind.FIRST_LETTERS:
            first_time.queue_identifier(self._store, transaction, account, now)
        transaction.add(AgentTask(id=task.id, request_mac=self._mac, at=now, answer=self.answer))
        return wanted

    def _judge(
        self, transaction: Transaction, account: Account | None, route: Route, now: datetime
    ) -> Answer:
        rules = self._store.rules
        if account is None or account.closed_at is not None:
            return Answer.UNKNOWN_ACCOUNT
        if not rules.may_log_in(*PHONE_LOGIN, now):
            return Answer.TELEPHONE_CLOSED
        if self._task.kind is Kind.FIRST_LETTERS and first_time.has_password(transaction, account):
            return Answer.HAS_PASSWORD
        at_agents_request = _issued(account, now - DAY).where(
            Credential.origin == CredentialOrigin.AGENT
        )
        if transaction.scalars(at_agents_request).one() >= rules.agents.account_day:
            return Answer.TOO_OFTEN
        by_post = _issued(account, now - rules.reset.letter_days * DAY).where(
            Credential.route == Route.LETTER, Credential.state == CredentialState.PENDING
        )
        if route is Route.LETTER and transaction.scalars(by_post).one():
            return Answer.LETTER_UNDER_WAY
        return Answer.DONE


def _issued(account: Account, since: datetime) -> Select[int]:
    return select(func.count()).where(
        Credential.account_id == account.id, Credential.created_at > since
    )
