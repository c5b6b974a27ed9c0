"""What one line of the route table says."""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPMethod, HTTPStatus
from typing import Annotated, Generic
from uuid import UUID

from pydantic import BaseModel, Field

from shared import sessions
from shared.api.bodies import B, NoBody
from shared.api.problems import Problem
from shared.apikeys import Scope
from shared.campaigns import Texts
from shared.sessions import Session
from shared.store import Store

LARGEST_BODY = 16 * 1024  # bytes
TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")  # 32 bytes in base64url
IDEMPOTENCY_KEY = re.compile(r"[A-Za-z0-9_-]{16,64}")
NO_DEED = UUID(int=0)
SessionToken = Annotated[
    str, Field(description="for the X-Session header", pattern=f"^{TOKEN.pattern}$")
]


def encode_token(token: bytes) -> str:
    """Give a session's token as the X-Session header has it."""
    return base64.urlsafe_b64encode(token).decode("ascii").rstrip("=")


def decode_token(text: str) -> bytes | None:
    """Read an X-Session header; None if it is no token."""
    return base64.urlsafe_b64decode(text + "=") if TOKEN.fullmatch(text) else None


@dataclass(frozen=True)
class Call:
    """What a handler is called with, besides the body: the store, and who asks."""

    store: Store
    texts: Texts  # judge what clients want sent
    client: str = ""  # empty where anybody may ask
    scopes: frozenset[str] = frozenset()
    token: bytes = field(default=b"", repr=False)  # empty where no session is needed
    deed: UUID = NO_DEED  # names what is made, where something is changed

    def session(self) -> Session:
        """Give the session of the request; SessionEndedError if it is not this client's."""
        return sessions.resume(self.store, self.token, self.client)


@dataclass(frozen=True)
class Answer:
    """What a handler answers with; a problem is raised instead (ProblemError)."""

    status: HTTPStatus
    content: BaseModel | None = None


Draft = Callable[[Call, B], tuple[Answer, Mapping[str, object]]]
"""Gives what a handler answers, and the message that it puts into the outbox."""


@dataclass(frozen=True, kw_only=True)
class Route(Generic[B]):
    """One operation. Its handler is plain blocking code on the store, run in the pool."""

    method: HTTPMethod
    path: str
    summary: str
    handle: Callable[[Call, B], Answer]
    request: type[B]
    answers: Mapping[HTTPStatus, type[BaseModel] | None]
    problems: tuple[Problem, ...] = ()  # besides those that any such route may meet
    scope: Scope | None  # None: anybody may ask, without a key
    in_session: bool = False  # the X-Session header says for whom
    largest_body: int = LARGEST_BODY
    draft: Draft[B] | None = None  # where it does no more: what comes at once is one transaction

    @property
    def changes(self) -> bool:
        """Say whether it changes something: with the same Idempotency-Key it is done once."""
        return self.method is not HTTPMethod.GET

    @property
    def in_path(self) -> bool:
        """Say whether the request stands in the path: each of its fields there in braces."""
        return "{" in self.path

    @property
    def in_query(self) -> bool:
        """Say whether the request stands in the query of the address: a GET has no body."""
        return not (self.changes or self.in_path or self.request is NoBody)

    @property
    def has_body(self) -> bool:
        """Say whether the request is a body."""
        return self.changes and not (self.in_path or self.request is NoBody)
