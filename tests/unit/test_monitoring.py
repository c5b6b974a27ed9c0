"""Alarms and dashboard ask for what the gateway tells; tests/peers has their judge."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.inbound import Keyword
from shared.models import MessageState, Route
from shared.outbox import Report, Result
from sms import metrics
from sms.census import Census, Waiting
from sms.lane import Out, Standing
from tests.scraping import Scrape

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "containers/monitoring"
ALARMS: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alarms.yml").read_text("utf-8"))["groups"][
    0
]["rules"]
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text("utf-8"))
CONFIG: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
DOCS = REPOSITORY / "docs"

OF_PROMETHEUS = {"instance", "job"}  # labels that it gives itself
VALUES: Mapping[str, type[StrEnum]] = {
    "route": Route,
    "state": MessageState,
    "result": Result,
    "why": Out,
}

EXPRESSIONS = [alarm["expr"] for alarm in ALARMS] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]


@pytest.fixture(scope="module")
def told() -> Mapping[str, set[str]]:
    """Everything that a gateway can tell: names of series, and of their labels."""
    now = datetime(2021, 11, 2, 9, 30, tzinfo=UTC)
    metrics.sent("twilio", Report(Result.ACCEPTED))
    metrics.accepted("password", timedelta(seconds=1))
    metrics.received("twilio", MessageState.DELIVERED, timedelta(seconds=1))
    metrics.inbound("twilio", Keyword.STOP)
    waiting = [Waiting(Route.SMS, "password", MessageState.QUEUED, 1, now)]
    taken, held = {("twilio", False): 1}, {MessageState.HELD: 1}
    census = Census(now, waiting, {(Route.SMS, MessageState.LOST): 1}, taken, held, 0)
    standing = Standing("twilio", Route.SMS, works=True, out=None)
    return Scrape(metrics.page(census, [standing]).decode()).labels()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_asked_for_is_told(told: Mapping[str, set[str]], expression: str) -> None:
    asked = re.findall(r"\b(svi_\w+)(?:\{(.*?)\})?", expression)
    assert asked or expression.startswith("up{")
    for name, matchers in asked:
        assert name in told
        for label, values in re.findall(r'(\w+)\s*[=!]~?\s*"(.*?)"', matchers):
            assert label in told[name] | OF_PROMETHEUS
            for value in values.split("|") if label in VALUES else ():
                VALUES[label](value)
    kept = {
        label.strip()
        for labels in re.findall(r"\b(?:by|on)\s*\((.*?)\)", expression)
        for label in labels.split(",")
    }
    assert kept <= OF_PROMETHEUS.union(*(told[name] for name, _ in asked))


def test_everything_told_is_asked_for(told: Mapping[str, set[str]]) -> None:
    """A metric that neither an alarm nor the dashboard shows is one too many."""
    shown = {name for expression in EXPRESSIONS for name in re.findall(r"\bsvi_\w+", expression)}
    suffix = re.compile("_(bucket|count|sum)$")
    assert {suffix.sub("", name) for name in told} == {suffix.sub("", name) for name in shown}


def test_every_metric_and_its_labels_are_documented(told: Mapping[str, set[str]]) -> None:
    rows = re.findall(
        r"^\| `(svi_\w+)` \| (.*?) \|", (DOCS / "deployment.md").read_text("utf-8"), re.MULTILINE
    )
    documented = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    assert documented == {
        name.removesuffix("_count"): labels
        for name, labels in told.items()
        if not name.endswith(("_bucket", "_sum"))
    }


def test_every_alarm_says_what_to_do() -> None:
    rows = re.findall(
        r"^\| `(Svi\w+)` \| (\w+) \|", (DOCS / "alarmes.md").read_text("utf-8"), re.MULTILINE
    )
    gravity = {"critical": "critique", "warning": "avertissement"}
    assert rows == [(alarm["alert"], gravity[alarm["labels"]["severity"]]) for alarm in ALARMS]
    assert all(alarm["annotations"]["summary"] for alarm in ALARMS)


def test_the_job_that_the_alarms_look_for_is_the_one_configured() -> None:
    [job] = CONFIG["scrape_configs"]
    assert f'up{{job="{job["job_name"]}"}}' in ALARMS[0]["expr"]
    assert CONFIG["rule_files"] == ["alarms.yml"]


def test_no_panel_lies_upon_another() -> None:
    taken = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
