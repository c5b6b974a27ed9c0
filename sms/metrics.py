"""What Prometheus is told of the gateway; every metric is named here.

Labels hold what a table of ours names and never anything of a person or a message (D13).
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric

from shared.inbound import Keyword
from shared.models import MessageState
from shared.outbox import Report
from sms import smpp
from sms.census import Census
from sms.lane import Out, Standing
from sms.providers import smtp, twilio

OTHER = "other"
CODES = frozenset(
    {
        "",  # accepted
        # the dispatcher's
        *("failed", "no-answer", "no-template", "not-asked", "provider-stopped", "stopped"),
        # of the way to a provider
        *("cut", "not-gsm7", "timeout", "unreachable", "unreadable", "unwritten"),
        *("no-address", *smtp.WITHOUT_REPLY),
        # the providers' own
        *map(str, [*twilio.BY_CODE, *twilio.BY_STATUS, 500, 502, 503, 504]),
        *smpp.NAMES.values(),
        *map(str, smtp.REPLIES),
    }
)
"""Codes that become a label; what else a provider may answer is `OTHER`: labels cost memory."""

_described: dict[str, frozenset[str]] = {}  # codes of the operators that files describe, by name

# From a second to a day, with the lives of codes between (R15).
BUCKETS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 6 * 3600, 24 * 3600)

# Else each would have a second series, of when it began.
disable_created_metrics()  # type: ignore[no-untyped-call] # an untyped function of the library's

_counted = CollectorRegistry()
_SENDS = Counter(
    "svi_sends",
    "Attempts to hand a message to a provider, by what came of them.",
    ["provider", "result", "code"],
    registry=_counted,
)
_ACCEPTANCE = Histogram(
    "svi_message_acceptance_seconds",
    "From the request for a message until a provider took it.",
    ["template"],
    buckets=BUCKETS,
    registry=_counted,
)
_RECEIPTS = Counter(
    "svi_receipts",
    "Receipts, repeated ones included, by what they say.",
    ["provider", "state"],
    registry=_counted,
)
_DELIVERY = Histogram(
    "svi_message_delivery_seconds",
    "From a provider's taking a message until the receipt of its delivery.",
    ["provider"],
    buckets=BUCKETS,
    registry=_counted,
)
_INBOUND = Counter(
    "svi_inbound",
    "Messages that people sent us, repeated ones included, by the word in them.",
    ["provider", "keyword"],
    registry=_counted,
)


def know_codes(provider: str, codes: frozenset[str]) -> None:
    """Let these codes of a provider's become labels too: its file names them."""
    _described[provider] = codes


def expect_receipts(provider: str) -> None:
    """Tell of a provider's receipts from the start: who never brought one must be seen to."""
    for state in (MessageState.DELIVERED, MessageState.UNDELIVERED):
        _RECEIPTS.labels(provider, state)


def sent(provider: str, report: Report) -> None:
    """Count an attempt to send."""
    code = report.code if report.code in CODES | _described.get(provider, frozenset()) else OTHER
    _SENDS.labels(provider, report.result, code).inc()


def accepted(template: str, after: timedelta) -> None:
    """Note how long a message waited until a provider took it."""
    _ACCEPTANCE.labels(template).observe(_seconds(after))


def received(provider: str, state: MessageState, after: timedelta | None = None) -> None:
    """Count a receipt, and note how long a delivery took; None if that is known, or not at all."""
    _RECEIPTS.labels(provider, state).inc()
    if state is MessageState.DELIVERED and after is not None:
        _DELIVERY.labels(provider).observe(_seconds(after))


def inbound(provider: str, keyword: Keyword | None) -> None:
    """Count a message that somebody sent us; None is one without a word of ours."""
    _INBOUND.labels(provider, keyword or OTHER).inc()


def page(census: Census | None, standings: Sequence[Standing]) -> bytes:
    """Write all metrics in Prometheus' text format; `census` is None while the database is away."""
    return generate_latest(_Page(census, standings))


class _Page:
    """Everything at one instant, as the library wants it."""

    def __init__(self, census: Census | None, standings: Sequence[Standing]) -> None:
        self._census = census
        self._standings = standings

    def collect(self) -> Iterable[Metric]:
        yield from _counted.collect()
        yield GaugeMetricFamily(
            "svi_database_up",
            "Whether the database answers in time; if not, what is counted there is missing.",
            value=self._census is not None,
        )
        yield _gauge(
            "svi_dispatcher_working",
            "Whether messages go out by this provider.",
            ["provider", "route"],
            (([one.provider, one.route], one.works) for one in self._standings),
        )
        yield _gauge(
            "svi_provider_out",
            "Whether this provider is given no messages, and why.",
            ["provider", "route", "why"],
            (
                ([one.provider, one.route, why], one.out is why)
                for one in self._standings
                for why in Out
            ),
        )
        if self._census is not None:
            yield from _of_census(self._census)


def _of_census(census: Census) -> Iterable[Metric]:
    yield _gauge(
        "svi_queue_messages",
        "Messages that have not ended. A series that is absent is none.",
        ["route", "template", "state"],
        (([kind.route, kind.template, kind.state], kind.messages) for kind in census.waiting),
    )
    yield _gauge(
        "svi_queue_oldest_seconds",
        "Age of the oldest message that is due. A series that is absent: none is.",
        ["route", "template"],
        (
            ([kind.route, kind.template], _seconds(census.at - kind.oldest_due))
            for kind in census.waiting
            if kind.oldest_due is not None
        ),
    )
    yield _gauge(
        "svi_messages_last_day",
        "Messages asked for in the last 24 hours, by where they stand now.",
        ["route", "state"],
        census.last_day.items(),
    )
    yield _gauge(
        "svi_messages_taken",
        "SMS of the last 24 hours that a provider took over an hour ago, by whether it said since"
        " what became of them.",
        ["provider", "receipt"],
        (([by, "yes" if told else "no"], count) for (by, told), count in census.taken.items()),
    )
    yield _gauge(
        "svi_campaign_recipients",
        "Recipients of campaigns that have not ended, by where their message stands (R24).",
        ["state"],
        (([state], count) for state, count in census.campaigns.items()),
    )
    yield GaugeMetricFamily(
        "svi_letters_overdue",
        "Letters that the printer did not confirm in time (R25).",
        value=census.letters_overdue,
    )


def _gauge(
    name: str, help_text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def _seconds(time: timedelta) -> float:
    """Give a time that is never negative: clocks are set back."""
    return max(time.total_seconds(), 0.0)
