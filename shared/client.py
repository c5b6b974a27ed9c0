"""A small client of the HTTP API, on the standard library: for tests, and as an example.

What changes something carries an Idempotency-Key, so that a request whose answer was lost is simply
sent again: it is done once.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from shared.secret import Secret

TRIES = 3
SECONDS = 10.0


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


class StoreClient:
    """Asks the API at `url` with `key`; safe to use from many threads.

    ApiError for a problem; OSError or HTTPException if no answer came, however often it was asked.
    """

    def __init__(self, url: str, key: Secret) -> None:
        self._address = urlsplit(url)
        self._key = key

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

    def request_identifier(
        self, visitor: Visitor, surname: str, given_names: str, birth_date: date
    ) -> None:
        """Have the provisional identifier sent again, where there is one (R22)."""
        body = asdict(visitor) | {
            "surname": surname,
            "given_names": given_names,
            "birth_date": birth_date.isoformat(),
        }
        self._ask("POST", "/v1/identifier-requests", body)

    def request_password(self, asker: Asker) -> None:
        """Have a new password sent, where the dossier allows it."""
        self._ask("POST", "/v1/password-requests", asdict(asker))

    def change_password(self, session: Opened, password: Secret) -> None:
        """Change the password of the session's dossier (R07, R09)."""
        self._ask("POST", "/v1/session/password", {"password": password.reveal()}, session)

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
        body: Mapping[str, str | None] | None = None,
        session: Opened | None = None,
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._key.reveal()}"}
        if method != "GET":
            headers["Idempotency-Key"] = secrets.token_urlsafe(24)
        if session is not None:
            headers["X-Session"] = session.token.reveal()
        if body is not None:
            headers["Content-Type"] = "application/json"
        status, text = self._repeated(method, path, json.dumps(body) if body else None, headers)
        answer: dict[str, Any] = json.loads(text or "{}")
        if status >= 400:
            reasons = [fault["reason"] for fault in answer.get("errors", [])]
            raise ApiError(status, answer["type"], answer["title"], reasons)
        return answer

    def _repeated(
        self, method: str, path: str, body: str | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        for _ in range(TRIES - 1):
            try:
                return self._once(method, path, body, headers)
            except (OSError, HTTPException):
                continue  # the same key: it is done once
        return self._once(method, path, body, headers)

    def _once(
        self, method: str, path: str, body: str | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        secure = self._address.scheme == "https"
        connect = HTTPSConnection if secure else HTTPConnection
        connection = connect(self._address.netloc, timeout=SECONDS)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
