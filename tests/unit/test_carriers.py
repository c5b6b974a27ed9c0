"""What the gateway opens for each way out."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.secret import Secret
from shared.store import Store
from sms import http_description, metrics
from sms.inbound import Inbox
from sms.providers.http_json import HttpOperator
from sms.providers.smpp import SmppAccount
from sms.templates import Templates
from svi import carriers
from svi.settings import Settings
from tests.operators import EXAMPLE, PUBLIC_URL, SECRETS
from tests.scraping import Scrape


async def test_receipts_are_told_of_from_the_start_where_some_are_to_come(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing would tell one that never brought a receipt from one that has none."""
    monkeypatch.setenv("SVI_HOME", str(tmp_path))
    monkeypatch.setenv("SVI_SMPP_HOST", "127.0.0.1")
    monkeypatch.setenv("SVI_SMPP_PORT", "9")
    file = http_description.load(EXAMPLE)
    secrets = {name: Secret(value) for name, value in SECRETS.items()}
    telling = file.model_copy(update={"name": "telling"})
    silent = file.model_copy(update={"name": "silent", "receipts": None})
    those: list[carriers.Account] = [
        SmppAccount("caf", Secret("secret")),
        HttpOperator(telling, secrets, PUBLIC_URL),
        HttpOperator(silent, secrets, PUBLIC_URL),
    ]
    with ThreadPoolExecutor(1) as pool:
        inbox = Inbox(store, pool, Templates.load().numbers)
        async with carriers.sms_providers(Settings(), store, those, inbox, pool) as opened:
            assert [one.name for one in opened] == ["smpp", "telling", "silent"]
    page = Scrape(metrics.page(None, []).decode())
    told = [
        page.value("svi_receipts_total", provider=name, state="delivered")
        for name in ("smpp", "telling", "silent")
    ]
    assert told[1:] == [0, None]
    assert told[0] is not None
