"""A third party reads the API's own description and tries everything that it says, and does not."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.store import Store
from tests.api import LOGIN, Api, running
from tests.store import FakeClock, add_account

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # this is about HTTP


@pytest.fixture
def api(store: Store, clock: FakeClock) -> Iterator[Api]:
    """The API, in the days when the number logged in on the web (R17)."""
    clock.now = datetime(2021, 10, 1, 9, 30, tzinfo=UTC)
    add_account(store)
    with running(store) as api:
        yield api


# What R06, R14 and our limits on hashes refuse, the description can't say: much of it gets 422.
CONFIGURATION = "\n".join(
    f"""[[operations]]
include-path = "{path}"
warnings = false
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 409, 422]
"""
    for path in (
        "/v1/bascule/password",
        "/v1/recovery/password",
        "/v1/session/password",
        "/v1/changes",
    )
)
# Asked again after the session was ended.
CONFIGURATION += "\n".join(
    f"""[[operations]]
include-path = "{path}"
warnings = false
"""
    for path in ("/v1/session", "/v1/session/payments/last")
)


def judge(api: Api, session: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "schemathesis.toml").write_text(CONFIGURATION)
    return subprocess.run(
        [
            SCHEMATHESIS,
            "run",
            f"{api.url}/v1/openapi.json",
            *("-H", f"Authorization: Bearer {api.key.reveal()}", "-H", f"X-Session: {session}"),
            *("--phases", "coverage,fuzzing", "--max-examples", "10", "--seed", "1"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_finds_nothing(api: Api, tmp_path: Path) -> None:
    """Operations must also succeed, else little would be judged."""
    session = api.ask("POST", "/v1/logins", LOGIN, idempotency="0" * 16).json["session"]
    with capture_logs() as logs:
        judged = judge(api, session, tmp_path)
    assert judged.returncode == 0, judged.stdout
    assert "No issues found" in judged.stdout, judged.stdout
    assert {entry["asked"] for entry in logs if entry["status"] < 300} >= {
        "GET /v1/session",
        "GET /v1/session/payments/last",
        "POST /v1/password-requests",
        "POST /v1/changes",  # of numbers that the feed tells: that ends the session
        "GET /v1/health",
    }
