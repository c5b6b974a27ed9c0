"""A real gateway on a machine whose clock jumps (Debian's libfaketime)."""

import asyncio
import json
import os
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from shared.clock import system_clock
from shared.models import MessageState
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.acceptance.killing import SVI, rules_with_short_waits
from tests.gateway import message, queue, until
from tests.mail_server import AWAY
from tests.peers.fake_twilio import ACCOUNT_SID, TOKEN, fake_twilio, hangs_up

SECONDS = 60.0
JUMPS = {"back a day": ("-1d", timedelta(days=-1)), "forward an hour": ("+1h", timedelta(hours=1))}


class Clock:
    """What a process that is started with `environment` takes for the time."""

    def __init__(self, file: Path) -> None:
        [library] = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        self._file = file
        self.jump("+0")
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # nor does a clock that is set change that one
        }

    def jump(self, by: str) -> None:
        self._file.write_text(by)


@pytest.mark.parametrize(("said", "jump"), JUMPS.values(), ids=JUMPS)
async def test_a_gateway_goes_on_when_the_clock_jumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, jump: timedelta
) -> None:
    """One that Twilio has is found, one that it has not is sent once more, a new one leaves."""
    clock = Clock(tmp_path / "clock")
    account = tmp_path / "twilio.json"
    account.write_text(json.dumps({"account_sid": ACCOUNT_SID, "auth_token": TOKEN}))
    account.chmod(0o600)
    async with fake_twilio() as fake:
        changes = {
            "SVI_HOME": str(tmp_path / "home"),
            "SVI_RULES": str(rules_with_short_waits(tmp_path)),
            "SVI_GATEWAY_PORT": "0",
            "SVI_API_PORT": "0",
            "SVI_PUBLIC_URL": "https://sms.exemple.fr",
            "SVI_TWILIO_ACCOUNT": str(account),
            "SVI_TWILIO_URL": fake.url,
        } | AWAY
        for name, value in changes.items():
            monkeypatch.setenv(name, value)
        prepare_home(Settings())
        process = await asyncio.create_subprocess_exec(
            SVI, "gateway", env=os.environ | clock.environment
        )
        try:
            with open_store(Settings()) as store:
                fake.temper = fake.takes(1, hangs_up)
                ids = [queue(store, "11111111")]
                await until(lambda: len(fake.asked) == 1, SECONDS)
                fake.temper = hangs_up
                ids.append(queue(store, "22222222"))
                await until(lambda: len(fake.asked) == 2, SECONDS)
                fake.temper = None
                await until(lambda: message(store, ids[1]).state != MessageState.SENDING, SECONDS)
                clock.jump(said)
                as_it_says = replace(store, clock=lambda: system_clock() + jump)
                ids += [queue(store, "33333333"), queue(as_it_says, "44444444")]
                for one in ids:
                    await until(
                        lambda: message(store, one).state == MessageState.ACCEPTED,  # noqa: B023
                        SECONDS,
                    )
                ended = {message(store, one).ended_at for one in ids[2:]}
                repeated = [message(store, one).repeated for one in ids]
        finally:
            process.kill()
            await process.wait()
    assert Counter(one["body"] for one in fake.taken).most_common(1)[0][1] == 1
    assert len(fake.taken) == 4
    assert repeated == [False, True, False, False]
    # The clock did jump.
    assert all(at and abs(at - system_clock() - jump) < timedelta(minutes=30) for at in ended)
