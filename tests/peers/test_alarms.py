"""Alarms, dashboard and metrics as Prometheus itself judges them (Debian's `prometheus`)."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from shared.models import MessageState
from shared.store import Store
from sms import metrics
from tests.gateway import (
    MoodyProvider,
    attempts,
    dispatching,
    queue,
    until,
)
from tests.peers.npm import free_port
from tests.scraping import monitored
from tests.unit.test_monitoring import ALARMS, CONFIG, DASHBOARD, FOLDER, OF_PROMETHEUS

SECONDS = 60.0
ITS_OWN = {"__name__", *OF_PROMETHEUS}

Series = dict[str, str]  # what promtool calls input_series: each with its values

UP = 'up{job="svi-gateway", instance="a"}'
DATABASE = 'svi_database_up{instance="a"}'
DISPATCHER = 'svi_dispatcher_working{instance="a", provider="twilio", route="sms"}'
OTHER = 'svi_dispatcher_working{instance="a", provider="smpp", route="sms"}'
MAILS = 'svi_dispatcher_working{instance="a", provider="smtp", route="mail"}'
OUT = 'svi_provider_out{{instance="a", provider="{}", route="{}", why="{}"}}'
OLDEST = 'svi_queue_oldest_seconds{instance="a", route="sms", template="code"}'
LETTERS_OLDEST = 'svi_queue_oldest_seconds{instance="a", route="letter", template="password"}'
UNCERTAIN = 'svi_queue_messages{instance="a", route="sms", state="uncertain", template="code"}'
ACCEPTED = 'svi_sends_total{instance="a", provider="twilio", result="accepted", code=""}'
RETRIED = 'svi_sends_total{instance="a", provider="twilio", result="retry", code="20429"}'
OF_FILE = 'svi_sends_total{instance="a", provider="file-sms", result="accepted", code=""}'
OF_OPERATOR = 'svi_sends_total{instance="a", provider="operateur", result="accepted", code=""}'
RECEIPTS = 'svi_receipts_total{{instance="a", provider="{}", state="{}"}}'
DELIVERED = 'svi_receipts_total{instance="a", provider="twilio", state="delivered"}'
UNDELIVERED = 'svi_receipts_total{instance="a", provider="twilio", state="undelivered"}'
LATE = 'svi_letters_overdue{instance="a"}'
TAKEN = 'svi_messages_taken{{instance="{}", provider="{}", receipt="{}"}}'
LAST_DAY = 'svi_messages_last_day{{instance="{}", route="sms", state="{}"}}'
BUCKET = 'svi_message_delivery_seconds_bucket{{instance="a", provider="twilio", le="{}"}}'
COUNT = 'svi_message_delivery_seconds_count{instance="a", provider="twilio"}'

WELL: Series = {UP: "1x400", DATABASE: "1x400", DISPATCHER: "1x400"}


def no_receipts(provider: str) -> Series:
    """It is to bring receipts, and never did."""
    return {RECEIPTS.format(provider, state): "0x400" for state in ("delivered", "undelivered")}


def delivery(fast: int, slow: int) -> Series:
    """So many a minute are delivered within 10 s, and so many after 15 minutes at most."""
    return {
        DELIVERED: f"0+{fast + slow}x400",
        BUCKET.format("10"): f"0+{fast}x400",
        BUCKET.format("600"): f"0+{fast}x400",
        BUCKET.format("900"): f"0+{fast + slow}x400",
        BUCKET.format("+Inf"): f"0+{fast + slow}x400",
        COUNT: f"0+{fast + slow}x400",
    }


def last_day(expired: int, others: int, gateways: str = "a") -> Series:
    """So many messages of the last day expired, and others did not, as each gateway tells."""
    return {
        LAST_DAY.format(gateway, state): f"{count}x400"
        for gateway in gateways
        for state, count in (("delivered", others), ("expired", expired))
    }


def taken(without: int, told: int, provider: str = "twilio", gateways: str = "a") -> Series:
    """A provider said nothing of so many, and something of others, as each gateway tells."""
    return {
        TAKEN.format(gateway, provider, receipt): f"{count}x400"
        for gateway in gateways
        for receipt, count in (("no", without), ("yes", told))
    }


CASES: dict[str, tuple[Series, int, set[str]]] = {
    # what Prometheus sees a minute long each, after how many minutes, and which alarms sound
    "all is well": (WELL, 120, set()),
    "a message waits no more than usual": (WELL | {OLDEST: "300x400"}, 60, set()),
    "a busy hour": (WELL | {ACCEPTED: "0+50x400"} | delivery(50, 0), 120, set()),
    "no gateway is known": ({}, 3, {"SviGatewayAway"}),
    "the gateway is away": ({UP: "1 0x400"}, 4, {"SviGatewayAway"}),
    "the gateway is being started again": ({UP: "1 1 0 0 1x400"}, 3, set()),
    "the database is away": (
        WELL | {DATABASE: "0x400", DISPATCHER: "0x400"},
        3,
        {"SviDatabaseAway"},
    ),
    "the provider refuses us": (
        WELL | {DISPATCHER: "0x400", OUT.format("twilio", "sms", "stopped"): "1x400"},
        20,
        {"SviDispatcherStopped"},
    ),
    "one of two is out of reach": (
        WELL | {OTHER: "0x400", OUT.format("smpp", "sms", "failing"): "1x400"},
        6,
        {"SviProviderOut"},
    ),
    "one of two has been for a moment": (
        WELL | {OTHER: "0x400", OUT.format("smpp", "sms", "failing"): "1x400"},
        4,
        set(),
    ),
    "one of two was drained": (
        WELL | {OTHER: "0x400", OUT.format("smpp", "sms", "drained"): "1x400"},
        60,
        set(),
    ),
    "one of two has us wait for long": (
        WELL | {OTHER: "0x400", OUT.format("smpp", "sms", "throttled"): "1x400"},
        6,
        {"SviProviderOut"},
    ),
    "both are out": (
        WELL
        | {DISPATCHER: "0x400", OTHER: "0x400"}
        | {OUT.format("twilio", "sms", "stopped"): "1x400"}
        | {OUT.format("smpp", "sms", "failing"): "1x400"},
        20,
        {"SviDispatcherStopped"},
    ),
    "mails have no second provider": (
        WELL | {MAILS: "0x400", OUT.format("smtp", "mail", "stopped"): "1x400"},
        20,
        {"SviDispatcherStopped"},
    ),
    "an SMS waits for 6 minutes": (WELL | {OLDEST: "360x400"}, 3, {"SviMessagesWaiting"}),
    "a letter waits for a day": (WELL | {LETTERS_OLDEST: "86400x400"}, 60, set()),
    "a provider throttles us": (
        WELL | {ACCEPTED: "0+10x400", RETRIED: "0+5x400"} | delivery(10, 0),
        20,
        {"SviSendsFailing"},
    ),
    "it throttles us a little": (
        WELL | {ACCEPTED: "0+10x400", RETRIED: "0+2x400"} | delivery(10, 0),
        20,
        set(),
    ),
    "one of three sends fails at night": (
        WELL | {ACCEPTED: "0 1 1 2x400", RETRIED: "0 0 1 1x400", DELIVERED: "0 1 1 2x400"},
        9,
        set(),
    ),
    "many are uncertain": (WELL | {UNCERTAIN: "11x400"}, 11, {"SviMessagesUncertain"}),
    "many have been uncertain for a while": (WELL | {UNCERTAIN: "11x400"}, 9, set()),
    "a tenth of a day's messages expired": (WELL | last_day(20, 180), 11, {"SviMessagesUnsent"}),
    "half of a quiet day's messages expired": (WELL | last_day(9, 9), 60, set()),
    "two gateways tell the same few": (WELL | last_day(11, 290, gateways="ab"), 60, set()),
    "an operator blocks us": (
        WELL | {DELIVERED: "0+10x400", UNDELIVERED: "0+5x400"},
        75,
        {"SviMessagesUndelivered"},
    ),
    "some telephones are off": (
        WELL | {DELIVERED: "0+10x400", UNDELIVERED: "0+2x400"},
        75,
        set(),
    ),
    "one of five arrives late": (WELL | delivery(8, 2), 45, {"SviDeliverySlow"}),
    "one of twenty arrives late": (WELL | delivery(19, 1), 45, set()),
    "two SMS of a night arrive late": (
        WELL
        | {DELIVERED: "0 1 2x400", BUCKET.format("600"): "0x400", BUCKET.format("900"): "0 1 2x400"}
        | {BUCKET.format("+Inf"): "0 1 2x400", COUNT: "0 1 2x400"},
        20,
        set(),
    ),
    "no receipt comes": (
        WELL | {ACCEPTED: "0+10x400"} | no_receipts("twilio"),
        75,
        {"SviReceiptsMissing"},
    ),
    "no receipt comes any more": (
        WELL | {ACCEPTED: "0+10x400", DELIVERED: "0+10x60 600x340"},
        150,
        {"SviReceiptsMissing"},
    ),
    "an operator that a file describes brings none": (
        WELL | {OF_OPERATOR: "0+10x400"} | no_receipts("operateur"),
        75,
        {"SviReceiptsMissing"},
    ),
    "its file says of no receipts": (
        WELL | {OF_OPERATOR: "0+10x400"} | taken(30, 0, "operateur"),
        75,
        set(),
    ),
    "a quiet night has no receipts": (
        WELL | {ACCEPTED: "0 1 1 2x400"} | no_receipts("twilio"),
        75,
        set(),
    ),
    "a demonstration has no receipts": (WELL | {OF_FILE: "0+10x400"}, 75, set()),
    "a provider takes messages and forgets some": (
        WELL | taken(30, 70) | no_receipts("twilio"),
        11,
        {"SviReceiptsOverdue"},
    ),
    "it forgets all": (
        WELL | {TAKEN.format("a", "smpp", "no"): "11x400"} | no_receipts("smpp"),
        11,
        {"SviReceiptsOverdue"},
    ),
    "an operator that a file describes forgets some": (
        WELL | taken(30, 70, "operateur") | no_receipts("operateur"),
        11,
        {"SviReceiptsOverdue"},
    ),
    "a few telephones are off": (WELL | taken(15, 85) | no_receipts("twilio"), 60, set()),
    "one SMS of a quiet night is not heard of": (
        WELL | taken(1, 0) | no_receipts("twilio"),
        60,
        set(),
    ),
    "two gateways tell of the same few telephones": (
        WELL | taken(15, 85, gateways="ab") | no_receipts("twilio"),
        60,
        set(),
    ),
    "a demonstration hears of no SMS": (WELL | taken(30, 0, "file-sms"), 60, set()),
    "a letter is late": (WELL | {LATE: "1x400"}, 11, {"SviLettersOverdue"}),
}


@pytest.mark.parametrize(("series", "minutes", "sound"), CASES.values(), ids=CASES)
def test_which_alarms_sound(tmp_path: Path, series: Series, minutes: int, sound: set[str]) -> None:
    tested = {
        "rule_files": [str(FOLDER / "alarms.yml")],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": n, "values": v} for n, v in series.items()],
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": f"{minutes}m",
                        "exp_samples": [
                            {"labels": f'{{alertname="{name}"}}', "value": 1} for name in sound
                        ],
                    }
                ],
            }
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(tested))
    promtool("test", "rules", str(file))


def test_every_alarm_has_sounded() -> None:
    heard = {name for _, _, sound in CASES.values() for name in sound}
    assert heard == {alarm["alert"] for alarm in ALARMS}


def test_the_files_are_prometheus_own() -> None:
    promtool("check", "config", str(FOLDER / "prometheus.yml"))


def test_the_dashboards_questions_can_be_asked(tmp_path: Path) -> None:
    """As rules: promtool has no other way to judge an expression."""
    questions = [
        target["expr"].replace("$__rate_interval", "5m")
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    ]
    rules = [{"record": f"question:{n}", "expr": one} for n, one in enumerate(questions)]
    file = tmp_path / "questions.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(questions)} rules found" in promtool("check", "rules", str(file))


async def test_prometheus_reads_what_a_gateway_tells(store: Store, tmp_path: Path) -> None:
    """A real one, with our files, scrapes a gateway that has sent something."""
    queued = queue(store)
    async with dispatching(store, MoodyProvider()):
        await until(lambda: [one.result for one in attempts(store, queued)] == ["accepted"])
    metrics.received("moody", MessageState.DELIVERED)
    async with monitored(store) as gateway:
        promtool("check", "metrics", text=(await gateway.scrape()).text)
        async with prometheus(tmp_path, gateway.url) as ask:
            assert await ask('svi_dispatcher_working{job="svi-gateway"}') == [
                ({"provider": "moody", "route": "sms"}, 1.0)
            ]
            assert await ask("svi_messages_last_day") == [
                ({"route": "sms", "state": "accepted"}, 1.0)
            ]
            [(labels, count)] = await ask("svi_message_acceptance_seconds_count")
            assert (labels["template"], count >= 1) == ("password", True)
            assert await ask('ALERTS{alertstate="firing"}') == []


class Asking:
    """Asks a Prometheus of its own questions."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def __call__(self, question: str) -> Sequence[tuple[dict[str, str], float]]:
        """Give each series by the labels that the gateway gave it, and its value."""
        async with self._session.get(self._url, params={"query": question}) as answer:
            found: list[dict[str, Any]] = (await answer.json())["data"]["result"]
        return [
            (
                {
                    k: v
                    for k, v in one["metric"].items()
                    if k not in {"__name__", "instance", "job"}
                },
                float(one["value"][1]),
            )
            for one in found
        ]


@asynccontextmanager
async def prometheus(folder: Path, target: str) -> AsyncIterator[Asking]:
    """Run Prometheus with our files, each second, until it has scraped the target."""
    [job] = CONFIG["scrape_configs"]
    job = job | {"static_configs": [{"targets": [target.removeprefix("http://")]}]}
    rules = {"rule_files": [str(FOLDER / "alarms.yml")], "scrape_configs": [job]}
    often = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(CONFIG | rules | often))
    port = free_port()
    with subprocess.Popen(
        [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            async with aiohttp.ClientSession() as session, asyncio.timeout(SECONDS):
                ask = Asking(f"http://127.0.0.1:{port}/api/v1/query", session)
                while not await scraped(ask):
                    assert process.poll() is None
                    await asyncio.sleep(0.1)
                yield ask
        finally:
            process.terminate()


async def scraped(ask: Asking) -> bool:
    try:
        return await ask('up{job="svi-gateway"}') == [({}, 1.0)]
    except aiohttp.ClientError:  # it is not up itself yet
        return False


def promtool(*arguments: str, text: str = "") -> str:
    """Give what it prints; AssertionError with that if it finds a fault."""
    judged = subprocess.run(
        ["promtool", *arguments],
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout
    return judged.stdout
