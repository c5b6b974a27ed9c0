"""What happens to the dossiers' passwords, told between this store and the web stack (R04)."""

from collections.abc import Sequence
from datetime import datetime
from http import HTTPMethod, HTTPStatus
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from shared import feed, web_changes
from shared.api import problems
from shared.api.bodies import Strict
from shared.api.fields import CaisseCode, ChangeNumber, Instant, Number, Uuid
from shared.api.problems import Fault, ProblemError
from shared.api.routes import Answer, Call, Route
from shared.apikeys import Scope
from shared.feed import Entry
from shared.hashing import read_foreign
from shared.legacy import BadDigestError
from shared.life_cycle import Key
from shared.models import ChangeEvent
from shared.web_changes import ChangeResult, FutureChangeError, WebChange

LONGEST_HASH = 512


class After(Strict):
    """Where to go on in the feed."""

    after: Annotated[
        ChangeNumber, Field(description="the id of the last change read; 0 in the beginning")
    ]


class ChangeView(BaseModel):
    """One thing that happened to a password or code, or that a dossier's people were erased."""

    id: int
    at: datetime
    event: ChangeEvent
    caisse: CaisseCode
    number: Number
    kind: Literal["password", "code", "dossier"]
    credential: UUID | None = Field(description="null for a dossier")
    why: str | None = Field(description="what it was issued for, or ended by")

    @classmethod
    def of(cls, entry: Entry) -> "ChangeView":
        """Describe an entry of the feed."""
        return cls.model_validate(
            {
                "id": entry.id,
                "at": entry.at,
                "event": entry.event,
                "caisse": entry.caisse,
                "number": entry.number,
                "kind": entry.kind,
                "credential": entry.credential_id,
                "why": entry.why,
            }
        )


class Changes(BaseModel):
    """What happened next, the oldest first; empty when there is nothing new."""

    changes: Sequence[ChangeView] = Field(max_length=feed.MOST)


class ForeignHash(Strict):
    """What the web stack keeps of a password."""

    scheme: Annotated[str, Field(max_length=32, examples=["argon2id"])]
    hash: Annotated[str, Field(max_length=LONGEST_HASH, repr=False)]
    provisional: bool = Field(description="to be changed at the next login on the web (R09)")


class ToldChange(Strict):
    """The passwords that a dossier had at that instant are over."""

    id: Uuid
    at: Instant
    caisse: CaisseCode
    number: Number
    password: ForeignHash | None = Field(description="the new one, if one was created")

    def as_change(self) -> WebChange:
        """Give what the store does; ProblemError for a hash that is none of ours to compute."""
        key, new = Key(self.caisse, self.number), self.password
        if new is None:
            return WebChange(self.id, key, self.at, None)
        try:
            foreign = read_foreign(new.scheme, new.hash)
        except BadDigestError:
            raise _invalid("password", "hash_refused") from None
        return WebChange(self.id, key, self.at, foreign, new.provisional)


class Told(BaseModel):
    """What came of it."""

    result: ChangeResult


def _invalid(field: str, reason: str) -> ProblemError:
    return ProblemError(problems.INVALID, [Fault(field=field, reason=reason)])


def _read(call: Call, query: After) -> Answer:
    entries = feed.since(call.store, query.after)
    return Answer(HTTPStatus.OK, Changes(changes=[ChangeView.of(entry) for entry in entries]))


def _tell(call: Call, body: ToldChange) -> Answer:
    try:
        result = web_changes.apply(call.store, body.as_change(), call.client)
    except FutureChangeError:
        raise _invalid("at", "in_the_future") from None
    return Answer(HTTPStatus.OK, Told(result=result))


ROUTES = (
    Route(
        method=HTTPMethod.GET,
        path="/v1/changes",
        summary="Follow what happens to the dossiers' passwords",
        handle=_read,
        request=After,
        answers={HTTPStatus.OK: Changes},
        scope=Scope.CHANGES,
    ),
    Route(
        method=HTTPMethod.POST,
        path="/v1/changes",
        summary="Tell that a dossier's password was ended or created elsewhere",
        handle=_tell,
        request=ToldChange,
        answers={HTTPStatus.OK: Told},
        problems=(problems.INVALID,),  # a hash, an instant to come
        scope=Scope.CHANGES,
    ),
)
