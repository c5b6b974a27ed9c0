"""`svi gateway` with an operator's SMSC and Twilio, of which the first dies and comes back."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from shared import providers
from shared.models import MessageState
from shared.store import Store
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.gateway import attempts, message, queue, until
from tests.peers.fake_twilio import ACCOUNT_SID, TOKEN, fake_twilio
from tests.peers.npm import free_port
from tests.peers.smsc import Behaviour, SmscProcess, smsc
from tests.protocol.test_gateway_process import ended, gateway, metrics, ready
from tests.scraping import Scrape

NEVER_ANSWERED = "+33612349999"  # by the SMSC
SECONDS = 120.0


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An installation with both; where they are is for the test to say."""
    accounts = {
        "twilio": {"account_sid": ACCOUNT_SID, "auth_token": TOKEN},
        "smpp": {"system_id": "caf", "password": "secret"},
    }
    changes = {
        "SVI_HOME": str(tmp_path),
        "SVI_SMS_PROVIDERS": "smpp,twilio",
        "SVI_SMPP_HOST": "127.0.0.1",
        "SVI_SMPP_PORT": str(free_port()),
        "SVI_PUBLIC_URL": "https://sms.exemple.fr",
        "SVI_GATEWAY_PORT": str(free_port()),
        "SVI_API_PORT": str(free_port()),
        "SVI_METRICS_PORT": str(free_port()),
    }
    for name, account in accounts.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(account))
        path.chmod(0o600)
        changes[f"SVI_{name.upper()}_ACCOUNT"] = str(path)
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    return changes


@contextmanager
def opened() -> Iterator[Store]:
    prepare_home(Settings())
    with open_store(Settings()) as store:
        yield store


async def by(store: Store, provider: str, count: int) -> None:
    """Have so many messages sent; each is to end with this provider."""
    queued = [queue(store, f"{number:08}") for number in range(count)]
    await taken(store, queued)
    assert {message(store, one).provider for one in queued} == {provider}
    assert {attempts(store, one)[-1].provider for one in queued} == {provider}


async def test_one_that_dies_is_replaced_by_the_next_until_it_is_back(
    environment: dict[str, str],
) -> None:
    """Nothing goes out twice: what the SMSC may have had when it died stays in doubt (D19)."""
    port = int(environment["SVI_SMPP_PORT"])
    with opened() as store:
        async with fake_twilio() as twilio:
            with gateway(os.environ | {"SVI_TWILIO_URL": twilio.url}) as process:
                async with smsc(Behaviour(port=port)) as center:
                    await until(lambda: ready(environment), SECONDS)
                    await center.told("bind")
                    await by(store, "smpp", 5)
                    doubtful = await in_doubt(store, center)
                await by(store, "twilio", 8)
                assert (len(center.texts()), len(twilio.taken)) == (6, 8)
                assert failing(environment) == (1, 0)
                assert ready(environment)
                async with smsc(Behaviour(port=port)) as center:
                    while failing(environment) != (0, 0):
                        await taken(store, [queue(store)])
                    others = len(twilio.taken)
                    await by(store, "smpp", 5)
                    assert len(twilio.taken) == others
                    providers.drain(store, "smpp")
                    await by(store, "twilio", 5)
                    assert (doubt := message(store, doubtful)).state == MessageState.UNCERTAIN
                    process.terminate()
                    await ended(process)
        assert process.returncode == 0
        assert (doubt.claims, doubt.provider) == (1, "smpp")
        assert NEVER_ANSWERED not in {asked["To"] for asked in twilio.asked}


async def taken(store: Store, messages: Sequence[UUID]) -> None:
    """Wait until messages have gone."""
    gone = {MessageState.ACCEPTED, MessageState.DELIVERED}
    await until(lambda: all(message(store, one).state in gone for one in messages), SECONDS)


async def in_doubt(store: Store, center: SmscProcess) -> UUID:
    """Have the SMSC asked for a message that it never answers."""
    before = len(center.texts())
    message_id = queue(store, "99999999", destination=NEVER_ANSWERED)
    await center.told("submit", before + 1)
    return message_id


def failing(environment: dict[str, str]) -> tuple[float, float]:
    """Say whether the SMSC and Twilio are let alone."""
    page = Scrape(metrics(environment["SVI_METRICS_PORT"]))
    smpp, twilio = (
        page.value("svi_provider_out", provider=name, route="sms", why="failing")
        for name in ("smpp", "twilio")
    )
    assert smpp is not None
    assert twilio is not None
    return smpp, twilio
