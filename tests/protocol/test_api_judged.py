"""A third party reads the API's own description and tries everything that it says, and does not."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete
from structlog.testing import capture_logs

from shared.api.routes import Route
from shared.api.table import ROUTES
from shared.client import StoreClient
from shared.models import Change
from shared.store import Store
from tests.api import LOGIN, Api, running
from tests.store import FakeClock, add_account, execute

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
SECONDS = 280  # it takes a core for a quarter of a minute, which a loaded machine may lack

pytestmark = [
    pytest.mark.parametrize("url", ["sqlite"], indirect=True),  # this is about HTTP
    pytest.mark.timeout(SECONDS + 20),
]


@pytest.fixture
def api(store: Store, clock: FakeClock) -> Iterator[Api]:
    """The API, in the days when the number logged in on the web (R17)."""
    clock.now = datetime(2021, 10, 1, 9, 30, tzinfo=UTC)
    add_account(store)
    with running(store) as api:
        yield api


def _configured(route: Route[Any]) -> str:
    """Say what a request may meet that has the shape described: what the table says, no more."""
    own = {problem.status.value for problem in route.problems}
    own |= {401} if route.in_session else set()  # DELETE /v1/session comes before some
    own |= {409} if route.changes else set()
    lines = [
        "[[operations]]",
        f'include-name = "{route.method} {route.path}"',
        f'checks.positive_data_acceptance.expected-statuses = ["2xx", {", ".join(map(str, own))}]',
    ]
    # Most of what is tried there is refused (R06, R14, hashes) or unknown: that is no sign of a
    # wrong shape.
    return "\n".join(lines + ["warnings = false"] * (route.in_session or bool(own & {404, 422})))


CONFIGURATION = "\n\n".join(map(_configured, ROUTES))


# They are judged by themselves: what is closed would refuse all the others.
INCIDENTS = "^/v1/incidents"


def judge(
    api: Api, session: str, folder: Path, *which: str, parameters: str = ""
) -> subprocess.CompletedProcess[str]:
    (folder / "schemathesis.toml").write_text(f"{parameters}\n{CONFIGURATION}")
    return subprocess.run(
        [
            SCHEMATHESIS,
            "run",
            f"{api.url}/v1/openapi.json",
            *("-H", f"Authorization: Bearer {api.key.reveal()}", "-H", f"X-Session: {session}"),
            *("--phases", "coverage,fuzzing", "--max-examples", "10", "--seed", "1"),
            *which,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_it_finds_nothing(store: Store, api: Api, tmp_path: Path) -> None:
    """Operations must also succeed, else little would be judged."""
    session = api.ask("POST", "/v1/logins", LOGIN, idempotency="0" * 16).json["session"]
    # It would learn the number from the feed, and end the session by telling a change of it.
    execute(store, lambda transaction: transaction.execute(delete(Change)))
    with capture_logs() as logs:
        judged = judge(api, session, tmp_path, "--exclude-path-regex", INCIDENTS)
    assert judged.returncode == 0, judged.stdout
    assert "No issues found" in judged.stdout, judged.stdout
    assert {entry["asked"] for entry in logs if entry["status"] < 300} >= {
        "GET /v1/session",
        "GET /v1/session/payments/last",
        "POST /v1/password-requests",
        "POST /v1/codes",
        "DELETE /v1/session",
        "GET /v1/health",
    }


# Each by itself, too: its first examples use one Idempotency-Key for all operations.
INCIDENT_PATHS = {
    "/v1/incidents": {"GET /v1/incidents", "POST /v1/incidents"},
    "/v1/incidents/lift": {"POST /v1/incidents/lift"},
    "/v1/incidents/void": {"POST /v1/incidents/void"},
}


@pytest.mark.parametrize(("path", "operations"), INCIDENT_PATHS.items(), ids=INCIDENT_PATHS)
def test_it_finds_nothing_about_incidents(
    api: Api, tmp_path: Path, path: str, operations: set[str]
) -> None:
    with capture_logs() as logs:
        judged = judge(api, "", tmp_path, "--include-path", path)
    assert judged.returncode == 0, judged.stdout
    assert "No issues found" in judged.stdout, judged.stdout
    assert {entry["asked"] for entry in logs if entry["status"] < 300} >= operations


CAMPAIGNS = {"GET /v1/campaigns/{id}", "POST /v1/campaigns/{id}/cancel"}


def test_it_finds_nothing_about_campaigns(api: Api, tmp_path: Path) -> None:
    """As about messages; once it is cancelled, nothing else can be done with it."""
    campaign = StoreClient(api.url, api.key).create_campaign(
        "rentree", "sms", template="notice.message-a-lire"
    )
    known = f'[parameters]\n"path.id" = "{campaign}"'
    which = ("--include-path-regex", "^/v1/campaign")
    with capture_logs() as logs:
        judged = judge(api, "", tmp_path, *which, parameters=known)
    assert judged.returncode == 0, judged.stdout
    assert "No issues found" in judged.stdout, judged.stdout
    assert {entry["asked"] for entry in logs if entry["status"] < 300} >= CAMPAIGNS


MESSAGES = {"GET /v1/messages/{id}", "POST /v1/messages/{id}/cancel", "POST /v1/messages"}


def test_it_finds_nothing_about_messages(api: Api, tmp_path: Path) -> None:
    """Of one that there is; the others' ids, made up, are of no message."""
    message_id = StoreClient(api.url, api.key).send_message(
        "notice.message-a-lire", "+33612345678", {}, 60
    )
    known = f'[parameters]\n"path.id" = "{message_id}"'
    with capture_logs() as logs:
        judged = judge(api, "", tmp_path, "--include-path-regex", "^/v1/messages", parameters=known)
    assert judged.returncode == 0, judged.stdout
    assert "No issues found" in judged.stdout, judged.stdout
    assert {entry["asked"] for entry in logs if entry["status"] < 300} >= MESSAGES
