"""A small client of the HTTP API, on the standard library: for tests, and as an example.

What changes something carries an Idempotency-Key, so that a request whose answer was lost is simply
sent again: it is done once. While the first is still being done, the client waits for its answer.
"""

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from shared.secret import Secret

TRIES = 3
SECONDS = 10.0  # for one answer; and for one that is being made, all waits together
UNDER_WAY = "tag:caf.fr,2021:svi:idempotency-in-progress"
VOID_SECONDS = 3600.0

_Request = tuple[str, str, str | None, dict[str, str]]  # method, path, body, headers


class _Reply(NamedTuple):
    """An answer of the API's, and after how many seconds it may be asked again."""

    status: int
    content: dict[str, Any]
    wait: float


class ApiError(Exception):
    """The API answered with a problem; `kind` is its type, `reasons` are what the fields lack."""

    def __init__(self, status: int, kind: str, title: str, reasons: Sequence[str] = ()) -> None:
        super().__init__(f"{status}: {title}")
        self.status = status
        self.kind = kind
        self.reasons = tuple(reasons)


@dataclass(frozen=True)
class Asker:
    """Who is asking: the dossier, and what the person's failures are counted by (D05)."""

    caisse: str
    number: str = field(repr=False)
    client: str = field(repr=False)
    channel: str = "web"


@dataclass(frozen=True)
class Visitor:
    """A person who names no dossier, and what the person's failures are counted by (D05)."""

    client: str = field(repr=False)
    channel: str = "web"


@dataclass(frozen=True)
class Claim:
    """What a person gives who forgot the password on the web (R13); `route` is sms or mail."""

    identifier: str = field(repr=False)
    birth_name: str = field(repr=False)
    route: str
    contact: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class CivilStatus:
    """Who asks for a provisional identifier (R20, R22)."""

    surname: str = field(repr=False)
    given_names: str = field(repr=False)
    birth_date: date = field(repr=False)

    def body(self) -> dict[str, str]:
        """Give it as the API takes it."""
        return asdict(self) | {"birth_date": self.birth_date.isoformat()}


@dataclass(frozen=True)
class Dossier:
    """A dossier that an agent or another system names; repr hides which."""

    caisse: str
    number: str = field(repr=False)


@dataclass(frozen=True)
class ForeignHash:
    """A password that another system made: `provisional` is to be changed at a login (R09)."""

    scheme: str
    hash: str = field(repr=False)
    provisional: bool = False


@dataclass(frozen=True)
class Done:
    """What came of an agent's request: `answer`, and why it was refused."""

    answer: str
    reason: str | None


@dataclass(frozen=True)
class Window:
    """From an instant (included) to another (excluded), in one channel or caisse or all (D15)."""

    start: datetime
    end: datetime
    channel: str | None = None
    caisse: str | None = None

    def body(self) -> dict[str, str | None]:
        """Give it as the API takes it."""
        return asdict(self) | {"start": _instant(self.start), "end": _instant(self.end)}


@dataclass(frozen=True)
class Opened:
    """An open session, or one that is for some steps only."""

    token: Secret
    must_change_password: bool = False


@dataclass(frozen=True)
class OpenedDossier:
    """A session of one of a person's dossiers."""

    session: Opened
    dossier: str  # the same at every login
    caisse: str


def _instant(instant: datetime) -> str:
    """Write an instant as the API takes it."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class StoreClient:
    """Asks the API at `url` with `key`; safe to use from many threads.

    ApiError for a problem; OSError or HTTPException if no answer of the API's came, however often
    it was asked: what a proxy says in its place is none.
    """

    def __init__(self, url: str, key: Secret, wait: Callable[[float], object] = time.sleep) -> None:
        self._address = urlsplit(url)
        self._key = key
        self._wait = wait

    def log_in(self, asker: Asker, password: Secret) -> Opened:
        """Check a password and open a session."""
        body = asdict(asker) | {"password": password.reveal()}
        answer = self._ask("POST", "/v1/logins", body)
        return Opened(Secret(answer["session"]), answer["must_change_password"])

    def log_in_person(
        self, visitor: Visitor, identifier: str, password: Secret
    ) -> list[OpenedDossier]:
        """Check the password of whoever has that NIR or provisional identifier (R18, R20)."""
        body = asdict(visitor) | {"identifier": identifier, "password": password.reveal()}
        answer = self._ask("POST", "/v1/person-logins", body)
        return [
            OpenedDossier(Opened(Secret(one["session"])), one["dossier"], one["caisse"])
            for one in answer["sessions"]
        ]

    def begin_bascule(self, visitor: Visitor, nir: str, password: Secret) -> Opened:
        """Check the dossier's password, and open the steps of the bascule (R18)."""
        body = asdict(visitor) | {"nir": nir, "password": password.reveal()}
        return Opened(Secret(self._ask("POST", "/v1/bascule", body)["session"]))

    def accept_terms(self, steps: Opened) -> None:
        """Keep that the person accepted the terms of use."""
        self._ask("POST", "/v1/bascule/terms", session=steps)

    def choose_password(self, steps: Opened, password: Secret) -> None:
        """Choose the password of the account that the bascule makes."""
        body = {"password": password.reveal()}
        self._ask("POST", "/v1/bascule/password", body, steps)

    def send_code(self, steps: Opened, route: str) -> str:
        """Send a code by sms or mail to the person's contact on file; give the code's id."""
        answer = self._ask("POST", "/v1/bascule/codes", {"route": route}, steps)
        return str(answer["code_id"])

    def confirm_contact(self, steps: Opened, client: str, code_id: str, code: Secret) -> None:
        """Confirm the contact with the code that came."""
        body = {"client": client, "code_id": code_id, "code": code.reveal()}
        self._ask("POST", "/v1/bascule/confirmations", body, steps)

    def make_account(self, steps: Opened) -> None:
        """End the bascule: the person logs in with NIR and the password chosen."""
        self._ask("POST", "/v1/bascule/account", session=steps)

    def request_recovery(self, visitor: Visitor, claim: Claim) -> str:
        """Send a code where everything given is on file; give the code's id in any case."""
        answer = self._ask("POST", "/v1/recovery", asdict(visitor) | asdict(claim))
        return str(answer["code_id"])

    def verify_recovery(self, visitor: Visitor, code_id: str, code: Secret) -> Opened:
        """Check the code that came, and open the choice of a new password."""
        body = asdict(visitor) | {"code_id": code_id, "code": code.reveal()}
        return Opened(Secret(self._ask("POST", "/v1/recovery/verifications", body)["session"]))

    def recover_password(self, steps: Opened, password: Secret) -> None:
        """Choose the person's new password."""
        self._ask("POST", "/v1/recovery/password", {"password": password.reveal()}, steps)

    def request_first_identifier(self, asker: Asker, who: CivilStatus) -> None:
        """Have a provisional identifier sent, where the person has no NIR (R20)."""
        self._ask("POST", "/v1/identifiers", asdict(asker) | who.body())

    def request_identifier(self, visitor: Visitor, who: CivilStatus) -> None:
        """Have the provisional identifier sent again, where there is one (R22)."""
        self._ask("POST", "/v1/identifier-requests", asdict(visitor) | who.body())

    def request_password(self, asker: Asker) -> None:
        """Have a new password sent, where the dossier allows it."""
        self._ask("POST", "/v1/password-requests", asdict(asker))

    def change_password(self, session: Opened, password: Secret) -> None:
        """Change the password of the session's dossier (R07, R09)."""
        self._ask("POST", "/v1/session/password", {"password": password.reveal()}, session)

    def change_own_password(
        self, session: Opened, client: str, current: Secret, password: Secret
    ) -> None:
        """Change the web password of the session's person, who gives the one in force (R07)."""
        body = {"client": client, "current": current.reveal(), "password": password.reveal()}
        self._ask("POST", "/v1/session/web-password", body, session)

    def do_task(self, task: str, kind: str, dossier: Dossier, reason: str | None = None) -> Done:
        """Have a password sent, or the first letters, at an agent's request (R09, R25)."""
        body = asdict(dossier) | {"task": task, "kind": kind, "reason": reason}
        answer = self._ask("POST", "/v1/agent-tasks", body)
        return Done(answer["answer"], answer["reason"])

    def send_message(
        self, template: str, to: str, variables: Mapping[str, str], expires_in_minutes: int
    ) -> str:
        """Send a message from a template of the installation's own; give its id."""
        body = {
            "template": template,
            "to": to,
            "variables": dict(variables),
            "expires_in_minutes": expires_in_minutes,
        }
        return str(self._ask("POST", "/v1/messages", body)["id"])

    def message(self, message_id: str) -> dict[str, Any]:
        """Say where a message of ours is: its `state`, when it was taken, when it ended."""
        return self._ask("GET", f"/v1/messages/{message_id}")

    def cancel_message(self, message_id: str) -> dict[str, Any]:
        """Take a message of ours back, as far as it can be; say where it is now."""
        return self._ask("POST", f"/v1/messages/{message_id}/cancel")

    def opt_out(self, contact: str) -> None:
        """Send no campaign to a mobile or a mail address any more (R24)."""
        self._ask("POST", "/v1/opt-outs", {"contact": contact})

    def opt_in(self, contact: str) -> None:
        """Let campaigns come there again."""
        self._ask("POST", "/v1/opt-outs/remove", {"contact": contact})

    def request_code(
        self, visitor: Visitor, purpose: str, *, to: str | None = None, mail: str | None = None
    ) -> str:
        """Send a code to a mobile or a mail address of the visitor's; give the code's id (R15)."""
        body = asdict(visitor) | {"purpose": purpose, "to": to, "mail": mail}
        return str(self._ask("POST", "/v1/codes", body)["code_id"])

    def check_code(self, visitor: Visitor, purpose: str, code_id: str, code: Secret) -> None:
        """Check the code that came; ApiError `code-refused` if it is not the right one."""
        entered = {"purpose": purpose, "code_id": code_id, "code": code.reveal()}
        self._ask("POST", "/v1/codes/verifications", asdict(visitor) | entered)

    def create_campaign(self, name: str, route: str, **words: str) -> str:
        """Make a campaign; `words` are `template`, or `text` and `sender`. Give its id."""
        body = {"name": name, "route": route, **words}
        return str(self._ask("POST", "/v1/campaigns", body)["id"])

    def add_recipients(self, campaign: str, recipients: Sequence[Mapping[str, Any]]) -> int:
        """Add recipients, 1,000 at most, to a campaign of ours; give how many are new to it."""
        body = {"campaign": campaign, "recipients": [dict(one) for one in recipients]}
        return int(self._ask("POST", "/v1/campaign-recipients", body)["added"])

    def campaign(self, campaign: str) -> dict[str, Any]:
        """Say where a campaign of ours is: its `state`, and its `messages` by theirs."""
        return self._ask("GET", f"/v1/campaigns/{campaign}")

    def move_campaign(self, campaign: str, how: str) -> dict[str, Any]:
        """Do with a campaign of ours what `how` says: `start`, `pause`, `resume`, `cancel`."""
        return self._ask("POST", f"/v1/campaigns/{campaign}/{how}")

    def changes(self, after: int = 0) -> list[dict[str, Any]]:
        """Give what happened to the dossiers' passwords after that id, 500 entries at most."""
        answer = self._ask("GET", f"/v1/changes?after={after}")
        changes: list[dict[str, Any]] = answer["changes"]
        return changes

    def tell_change(
        self, change: UUID, at: datetime, dossier: Dossier, new: ForeignHash | None = None
    ) -> str:
        """Tell that a dossier's password ended elsewhere, for a new one if there is a hash."""
        body = asdict(dossier) | {
            "id": str(change),
            "at": _instant(at),
            "password": None if new is None else asdict(new),
        }
        return str(self._ask("POST", "/v1/changes", body)["result"])

    def incidents(self) -> list[dict[str, Any]]:
        """Give what is closed, each `scope` with `since`, the oldest first (D15)."""
        incidents: list[dict[str, Any]] = self._ask("GET", "/v1/incidents")["incidents"]
        return incidents

    def raise_incident(self, scope: str) -> bool:
        """Close `service`, `channel:…` or `caisse:…`; False if it is closed already (D15)."""
        answer = self._ask("POST", "/v1/incidents", {"scope": scope})
        return bool(answer["result"] == "closed")

    def lift_incident(self, scope: str) -> bool:
        """Open it again; False if it was not closed (D15)."""
        answer = self._ask("POST", "/v1/incidents/lift", {"scope": scope})
        return bool(answer["result"] == "opened")

    def void(self, window: Window, except_changed_before: datetime | None = None) -> dict[str, Any]:
        """Take back what was changed in a window: `counts`, `people` to tell, what is `left` (D15).

        It may take minutes, and is safe to ask for again.
        """
        before = None if except_changed_before is None else _instant(except_changed_before)
        body = window.body() | {"except_password_changed_before": before}
        return self._ask("POST", "/v1/incidents/void", body, seconds=VOID_SECONDS)

    def last_payment(self, session: Opened) -> dict[str, Any] | None:
        """Read the newest payment, `paid_on` (ISO date) and `cents`; None while there is none."""
        answer = self._ask("GET", "/v1/session/payments/last", session=session)
        payment: dict[str, Any] | None = answer["payment"]
        return payment

    def show_session(self, session: Opened) -> dict[str, Any]:
        """Say for what the session is open: `channel` and `must_change_password`."""
        return self._ask("GET", "/v1/session", session=session)

    def end_session(self, session: Opened) -> None:
        """Log out."""
        self._ask("DELETE", "/v1/session", session=session)

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        session: Opened | None = None,
        seconds: float = SECONDS,
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._key.reveal()}"}
        if method != "GET":
            headers["Idempotency-Key"] = secrets.token_urlsafe(24)
        if session is not None:
            headers["X-Session"] = session.token.reveal()
        if body is not None:
            headers["Content-Type"] = "application/json"
        request = (method, path, json.dumps(body) if body else None, headers)
        status, answer, _ = self._answered(request, seconds)
        if status >= 400:
            reasons = [fault["reason"] for fault in answer.get("errors", [])]
            raise ApiError(status, answer["type"], answer["title"], reasons)
        return answer

    def _answered(self, request: _Request, seconds: float) -> _Reply:
        """Ask with the same key until the answer is there, for so many seconds of waits."""
        waited = 0.0
        while True:
            reply = self._repeated(request, seconds)
            waited += reply.wait
            if reply.content.get("type") != UNDER_WAY or waited > seconds:
                return reply
            self._wait(reply.wait)

    def _repeated(self, request: _Request, seconds: float) -> _Reply:
        for _ in range(TRIES - 1):
            try:
                return self._once(request, seconds)
            except (OSError, HTTPException):
                continue  # the same key: it is done once
        return self._once(request, seconds)

    def _once(self, request: _Request, seconds: float) -> _Reply:
        secure = self._address.scheme == "https"
        connect = HTTPSConnection if secure else HTTPConnection
        connection = connect(self._address.netloc, timeout=seconds)
        try:
            connection.request(*request)
            answer = connection.getresponse()
            wait = answer.getheader("Retry-After", "")
            content = _content(answer.status, answer.read())
            return _Reply(answer.status, content, max(1.0, float(wait if wait.isdecimal() else 1)))
        finally:
            connection.close()


def _content(status: int, body: bytes) -> dict[str, Any]:
    """Read an answer's JSON; HTTPException if it is none of the API's."""
    try:
        content = json.loads(body or b"{}")
    except ValueError:
        content = None
    if not isinstance(content, dict) or (status >= 400 and "type" not in content):
        raise HTTPException(f"{status}: no answer of the API's")
    return content
