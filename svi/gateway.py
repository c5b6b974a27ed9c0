"""`svi gateway`: the SMS gateway and the store's HTTP API."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import (
    asynccontextmanager,
    contextmanager,
)
from functools import partial

import click
import structlog

from shared import logs
from shared.api import http as api
from shared.api.table import ROUTES
from shared.models import Route
from shared.store import Store
from sms.campaign_texts import CampaignTexts
from sms.dispatcher import Dispatcher
from sms.feeder import Feeder
from sms.http import Backend, application, metrics_application, serving
from sms.inbound import Inbox
from sms.lane import Standing
from sms.provider import Provider
from sms.providers.smtp import SmtpSettings
from sms.templates import Templates
from svi import carriers, demo
from svi.service import housekeeping, load_settings, open_store, prepare_home, raise_file_limit
from svi.settings import Settings

Loop = Dispatcher | Feeder

POOL_SIZE = 4  # threads that speak to the database
API_POOL_SIZE = 16  # the same for the API; each waits for a core to compute Argon2 (D13)

log = structlog.get_logger(__name__)


@click.command()
def gateway() -> None:
    """Démarre la passerelle : elle envoie les SMS et les courriels et sert l'API du site web.

    Elle écoute en HTTP sur SVI_GATEWAY_HOST et SVI_GATEWAY_PORT : /healthz, /readyz et ce que les
    fournisseurs adressent à SVI_PUBLIC_URL, accusés et SMS reçus. Avec SVI_SMPP_HOST, les SMS
    partent par ce centre SMS (SMPP 3.4) et non par Twilio, avec SVI_HTTP_PROVIDER par l'opérateur
    que ce fichier décrit ; SVI_SMS_PROVIDERS en nomme plusieurs, le préféré d'abord : le suivant
    prend ce que l'un n'a sûrement pas envoyé. Avec SVI_SMTP_HOST, les courriels partent par ce
    serveur, de l'adresse SVI_SMTP_SENDER ; sans lui, ils attendent et expirent. L'API est à part,
    sur SVI_API_HOST et SVI_API_PORT, et ne doit jamais être publique. SVI_METRICS_PORT ouvre
    /metrics à Prometheus, sur SVI_METRICS_HOST, à ne pas publier non plus. Plusieurs passerelles
    peuvent servir la même base.

    \b
    Exemples :
      SVI_TWILIO_ACCOUNT=/run/secrets/twilio.json SVI_PUBLIC_URL=https://sms.exemple.fr svi gateway
      SVI_SMPP_ACCOUNT=/run/secrets/smpp.json SVI_SMPP_HOST=smsc.exemple.fr svi gateway
      SVI_SMS_PROVIDERS=smpp,twilio SVI_SMPP_HOST=smsc.exemple.fr … svi gateway
    """
    settings = load_settings()
    raise_file_limit()
    accounts, mail = list(carriers.accounts(settings)), carriers.mail(settings)
    routes = (Route.SMS, Route.MAIL)
    templates = {route: Templates.load(settings.templates, route) for route in routes}
    prepare_home(settings)
    logs.configure(settings.logs / "gateway.log")
    with open_store(settings) as store, housekeeping(store):
        if settings.demo:
            demo.refuse_real_people(settings, store)
        asyncio.run(_serve(settings, store, templates, accounts, mail))


async def _serve(
    settings: Settings,
    store: Store,
    templates: Mapping[Route, Templates],
    accounts: Sequence[carriers.Account],
    mail: SmtpSettings | None,
) -> None:
    """Send messages and take receipts until a signal tells to stop."""
    with ThreadPoolExecutor(POOL_SIZE) as pool, ThreadPoolExecutor(API_POOL_SIZE) as api_pool:
        inbox = Inbox(store, pool, templates[Route.SMS].numbers)
        async with carriers.sms_providers(settings, store, accounts, inbox, pool) as by_sms:
            by_mail = list(carriers.mail_providers(settings, store, mail))
            dispatchers = [
                Dispatcher(store, providers, templates[route], pool)
                for route, providers in ((Route.SMS, by_sms), (Route.MAIL, by_mail))
                if providers
            ]
            callbacks = carriers.callbacks(settings, accounts, inbox)
            app = application(Backend(store, pool, partial(_all_work, dispatchers), callbacks))
            loops: list[Loop] = [*dispatchers, Feeder(store, pool)]
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, _stop, loops)
            async with (
                serving(app, settings.gateway_host, settings.gateway_port),
                api.serving(
                    api.application(store, api_pool, ROUTES, CampaignTexts(templates)),
                    settings.api_host,
                    settings.api_port,
                ),
                _metrics(settings, store, pool, partial(_standings, dispatchers)),
                asyncio.TaskGroup() as running,
            ):
                click.echo("ready")
                for loop in loops:
                    running.create_task(loop.run())


def _all_work(dispatchers: Sequence[Dispatcher]) -> bool:
    return all(dispatcher.working for dispatcher in dispatchers)


def _standings(dispatchers: Sequence[Dispatcher]) -> Sequence[Standing]:
    return [standing for dispatcher in dispatchers for standing in dispatcher.standings]


def _stop(loops: Sequence[Loop]) -> None:
    for loop in loops:
        loop.stop()


@asynccontextmanager
async def _metrics(
    settings: Settings, store: Store, pool: Executor, standings: Callable[[], Sequence[Standing]]
) -> AsyncIterator[None]:
    """Let Prometheus ask, if there is a port for it."""
    if settings.metrics_port is None:
        yield
        return
    app = metrics_application(store, pool, standings)
    async with serving(app, settings.metrics_host, settings.metrics_port):
        yield


@contextmanager
def dispatching(store: Store, provider: Provider, templates: Templates) -> Iterator[None]:
    """Send messages from a thread of its own as long as the block runs."""
    started: Future[tuple[asyncio.AbstractEventLoop, list[Loop]]] = Future()

    async def dispatch() -> None:
        with ThreadPoolExecutor(POOL_SIZE) as pool:
            loops: list[Loop] = [
                Dispatcher(store, [provider], templates, pool),
                Feeder(store, pool),
            ]
            started.set_result((asyncio.get_running_loop(), loops))
            await asyncio.gather(*(one.run() for one in loops))

    def serve() -> None:
        try:
            asyncio.run(dispatch())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=serve, name="gateway")
    thread.start()
    loop, loops = started.result()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(_stop, loops)
        thread.join()
