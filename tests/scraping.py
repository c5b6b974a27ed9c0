"""What Prometheus would see: the gateway's metrics, asked for over HTTP and parsed."""

from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from shared.models import Route
from shared.store import Store
from sms.http import metrics_application, serving
from sms.lane import Standing


@dataclass(frozen=True)
class Scrape:
    """One page of metrics."""

    text: str

    def value(self, name: str, **labels: str) -> float | None:
        """Give the value of one series; None if there is no such series."""
        return self._samples().get((name, frozenset(labels.items())))

    def series(self, name: str) -> Mapping[tuple[str, ...], float]:
        """Give all series of a name by the values of their labels, in alphabetical order."""
        return {
            tuple(value for _, value in sorted(labels)): sample
            for (of, labels), sample in self._samples().items()
            if of == name
        }

    def labels(self) -> Mapping[str, set[str]]:
        """Give every name with the names of its labels."""
        return {name: {label for label, _ in labels} for name, labels in self._samples()}

    def label_values(self) -> set[str]:
        """Give everything that stands in a label."""
        return {value for _, labels in self._samples() for _, value in labels}

    def _samples(self) -> Mapping[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
        }


class Prometheus:
    """Asks a gateway for its metrics."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def scrape(self) -> Scrape:
        async with self._session.get(self.url + "/metrics") as answer:
            assert answer.status == 200
            assert answer.content_type == "text/plain"
            return Scrape(await answer.text())


@asynccontextmanager
async def monitored(store: Store, *, works: bool = True) -> AsyncIterator[Prometheus]:
    """Serve the metrics of a gateway whose provider is `moody`."""
    with ThreadPoolExecutor(2) as pool:
        standing = Standing("moody", Route.SMS, works, None)
        app = metrics_application(store, pool, lambda: [standing])
        async with serving(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as session:
            yield Prometheus(f"http://127.0.0.1:{port}", session)


async def scrape(store: Store) -> Scrape:
    """Ask once."""
    async with monitored(store) as prometheus:
        return await prometheus.scrape()


def grown(before: Scrape, after: Scrape, name: str, **labels: str) -> float:
    """Give by how much a series grew: those of the process itself know nothing of tests."""
    then, now = (page.value(name, **labels) or 0 for page in (before, after))
    return now - then
