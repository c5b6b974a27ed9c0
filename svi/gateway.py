"""`svi gateway`: the SMS gateway and the store's HTTP API."""

import asyncio
import signal
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from datetime import timedelta
from functools import partial

import click
import structlog

from shared import logs, outbox
from shared.api import http as api
from shared.api.table import ROUTES
from shared.models import MessageState, Route
from shared.store import Store
from sms import metrics
from sms.callbacks import Callbacks, TwilioCallbacks
from sms.dispatcher import Dispatcher
from sms.http import Backend, application, metrics_application, serving
from sms.inbound import Inbox
from sms.lane import Standing
from sms.provider import Provider
from sms.providers.file import FileProvider
from sms.providers.smpp import SmppAccount, SmppProvider, SmppSettings, open_smpp
from sms.providers.smtp import SmtpAccount, SmtpProvider, SmtpSettings
from sms.providers.twilio import (
    TwilioAccount,
    TwilioMessages,
    TwilioReceipts,
    TwilioSettings,
    open_twilio,
)
from sms.templates import Templates
from svi import demo
from svi.service import housekeeping, load_settings, open_store, prepare_home
from svi.settings import Settings

Account = SmppAccount | TwilioAccount
"""Who we are to one who carries our SMS."""

POOL_SIZE = 4  # threads that speak to the database
API_POOL_SIZE = 16  # the same for the API; each waits for a core to compute Argon2 (D13)

log = structlog.get_logger(__name__)


@click.command()
def gateway() -> None:
    """Démarre la passerelle : elle envoie les SMS et les courriels et sert l'API du site web.

    Elle écoute en HTTP sur SVI_GATEWAY_HOST et SVI_GATEWAY_PORT : /healthz, /readyz et ce que
    Twilio adresse à SVI_PUBLIC_URL, accusés et SMS reçus. Avec SVI_SMPP_HOST, les SMS partent par
    ce centre SMS (SMPP 3.4) et non par Twilio ; SVI_SMS_PROVIDERS nomme les deux, le préféré
    d'abord : l'autre prend ce que le premier n'a sûrement pas envoyé. Avec SVI_SMTP_HOST, les
    courriels partent par ce serveur, de l'adresse SVI_SMTP_SENDER ; sans lui, ils attendent et
    expirent. L'API est à part, sur SVI_API_HOST et SVI_API_PORT, et ne doit jamais être publique.
    SVI_METRICS_PORT ouvre /metrics à Prometheus, sur SVI_METRICS_HOST, à ne pas publier non plus.
    Plusieurs passerelles peuvent servir la même base.

    \b
    Exemples :
      SVI_TWILIO_ACCOUNT=/run/secrets/twilio.json SVI_PUBLIC_URL=https://sms.exemple.fr svi gateway
      SVI_SMPP_ACCOUNT=/run/secrets/smpp.json SVI_SMPP_HOST=smsc.exemple.fr svi gateway
      SVI_SMS_PROVIDERS=smpp,twilio SVI_SMPP_HOST=smsc.exemple.fr … svi gateway
    """
    settings = load_settings()
    accounts, mail = list(_accounts(settings)), _mail(settings)
    routes = (Route.SMS, Route.MAIL)
    templates = {route: Templates.load(settings.templates, route) for route in routes}
    prepare_home(settings)
    logs.configure(settings.logs / "gateway.log")
    with open_store(settings) as store, housekeeping(store):
        if settings.demo:
            demo.refuse_real_people(settings, store)
        asyncio.run(_serve(settings, store, templates, accounts, mail))


def _accounts(settings: Settings) -> Iterator[Account]:
    """Read who we are to those who carry our SMS, in their order; none in the demonstration.

    ClickException where one lacks what it needs.
    """
    for name in () if settings.demo else settings.sms_order:
        if name == SmppProvider.name:
            _needed("SVI_SMPP_HOST", settings.smpp_host, "le centre SMS de smpp")
            yield SmppAccount.load(settings.smpp_account)
        else:
            _needed("SVI_PUBLIC_URL", settings.public_url, "l'adresse où Twilio nous joint")
            yield TwilioAccount.load(settings.twilio_account)


def _needed(name: str, value: str, what: str) -> None:
    if not value:
        raise click.ClickException(f"{name} : il faut {what}")


def _mail(settings: Settings) -> SmtpSettings | None:
    """Read how mails leave; None for the demonstration, and where no server is named."""
    if settings.demo or not settings.smtp_host:
        return None
    return SmtpSettings(
        host=settings.smtp_host,
        sender=settings.smtp_sender,
        account=SmtpAccount.load(settings.smtp_account) if settings.smtp_account else None,
        port=settings.smtp_port,
        security=settings.smtp_tls,
    )


async def _serve(
    settings: Settings,
    store: Store,
    templates: Mapping[Route, Templates],
    accounts: Sequence[Account],
    mail: SmtpSettings | None,
) -> None:
    """Send messages and take receipts until a signal tells to stop."""
    with ThreadPoolExecutor(POOL_SIZE) as pool, ThreadPoolExecutor(API_POOL_SIZE) as api_pool:
        inbox = Inbox(store, pool, templates[Route.SMS].numbers)
        async with _sms_providers(settings, store, accounts, inbox, pool) as by_sms:
            by = {Route.SMS: by_sms, Route.MAIL: list(_mailers(settings, store, mail))}
            dispatchers = [
                Dispatcher(store, providers, templates[route], pool)
                for route, providers in by.items()
                if providers
            ]
            callbacks = _callbacks(settings, accounts, inbox)
            app = application(Backend(store, pool, partial(_all_work, dispatchers), callbacks))
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, _stop, dispatchers)
            async with (
                serving(app, settings.gateway_host, settings.gateway_port),
                api.serving(
                    api.application(store, api_pool, ROUTES, templates[Route.SMS].judge),
                    settings.api_host,
                    settings.api_port,
                ),
                _metrics(settings, store, pool, partial(_standings, dispatchers)),
                asyncio.TaskGroup() as running,
            ):
                click.echo("ready")
                for dispatcher in dispatchers:
                    running.create_task(dispatcher.run())


def _callbacks(settings: Settings, accounts: Sequence[Account], inbox: Inbox) -> Callbacks:
    """Give what takes the requests of those who carry our SMS."""
    url, twilio = settings.public_url, None
    for account in accounts:
        if isinstance(account, TwilioAccount):
            receipts, messages = TwilioReceipts(account, url), TwilioMessages(account, url)
            twilio = TwilioCallbacks(receipts, messages, inbox)
    return Callbacks(twilio)


def _all_work(dispatchers: Sequence[Dispatcher]) -> bool:
    return all(dispatcher.working for dispatcher in dispatchers)


def _standings(dispatchers: Sequence[Dispatcher]) -> Sequence[Standing]:
    return [standing for dispatcher in dispatchers for standing in dispatcher.standings]


def _stop(dispatchers: Sequence[Dispatcher]) -> None:
    for dispatcher in dispatchers:
        dispatcher.stop()


def _mailers(settings: Settings, store: Store, mail: SmtpSettings | None) -> Iterator[Provider]:
    """Give the way out for mails, if there is one."""
    if settings.demo:
        yield FileProvider(settings.messages, lambda _: None, Route.MAIL, only_invented_people=True)
    elif mail is not None:
        yield SmtpProvider(mail, store.clock)
    else:
        log.warning("mails_wait_and_expire", missing="SVI_SMTP_HOST")


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


@asynccontextmanager
async def _sms_providers(
    settings: Settings, store: Store, accounts: Sequence[Account], inbox: Inbox, pool: Executor
) -> AsyncIterator[Sequence[Provider]]:
    """Open the ways out for SMS, in their order; a file when this is a demonstration."""
    if settings.demo:
        yield [FileProvider(settings.messages, lambda _: None, only_invented_people=True)]
        return
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(_opened(settings, store, account, inbox, pool))
            for account in accounts
        ]


def _opened(
    settings: Settings, store: Store, account: Account, inbox: Inbox, pool: Executor
) -> AbstractAsyncContextManager[Provider]:
    """Give one way out for SMS, still to be opened: an SMSC or Twilio."""
    validity = timedelta(hours=store.rules.reset.message_hours)
    match account:
        case SmppAccount():
            smpp = SmppSettings(
                account=account,
                host=settings.smpp_host,
                port=settings.smpp_port,
                tls=ssl.create_default_context() if settings.smpp_tls else None,
                validity=validity,
                receipt_ids=settings.smpp_receipt_ids,
            )
            keep = partial(_keep_receipt, store, pool)
            return open_smpp(smpp, keep, inbox.take, store.chance)
        case TwilioAccount():
            twilio = TwilioSettings(
                account=account,
                public_url=settings.public_url,
                validity=validity,
                url=settings.twilio_url,
            )
            return open_twilio(twilio)


async def _keep_receipt(
    store: Store, pool: Executor, provider_id: str, state: MessageState
) -> None:
    """Keep what an SMSC tells; StoreDownError lets it tell that again."""
    kept = await asyncio.get_running_loop().run_in_executor(
        pool, outbox.part_receipt, store, SmppProvider.name, provider_id, state
    )
    metrics.received(SmppProvider.name, state, kept.after if kept else None)
    log.info("receipt_kept" if kept else "receipt_early", provider_id=provider_id, state=state)


@contextmanager
def dispatching(store: Store, provider: Provider, templates: Templates) -> Iterator[None]:
    """Send messages from a thread of its own as long as the block runs."""
    started: Future[tuple[asyncio.AbstractEventLoop, Dispatcher]] = Future()

    async def dispatch() -> None:
        with ThreadPoolExecutor(POOL_SIZE) as pool:
            dispatcher = Dispatcher(store, [provider], templates, pool)
            started.set_result((asyncio.get_running_loop(), dispatcher))
            await dispatcher.run()

    def serve() -> None:
        try:
            asyncio.run(dispatch())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=serve, name="gateway")
    thread.start()
    loop, dispatcher = started.result()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(dispatcher.stop)
        thread.join()
