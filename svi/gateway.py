"""`svi gateway`: the SMS gateway."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import click

from shared import logs
from shared.store import Store
from sms.dispatcher import Dispatcher
from sms.http import Backend, application, serving
from sms.provider import Provider
from sms.providers.twilio import TwilioAccount, TwilioReceipts, TwilioSettings, open_twilio
from sms.templates import Templates
from svi.service import load_settings, open_store
from svi.settings import Settings

POOL_SIZE = 4  # threads that speak to the database


@click.command()
def gateway() -> None:
    """Démarre la passerelle SMS : elle envoie par Twilio les messages en attente.

    Elle écoute en HTTP sur SVI_GATEWAY_HOST et SVI_GATEWAY_PORT : /healthz, /readyz et les accusés
    de Twilio, qui les adresse à SVI_PUBLIC_URL. Plusieurs peuvent servir la même base.

    \b
    Exemple :
      SVI_TWILIO_ACCOUNT=/run/secrets/twilio.json SVI_PUBLIC_URL=https://sms.exemple.fr svi gateway
    """
    settings = load_settings()
    if not settings.public_url:
        raise click.ClickException("SVI_PUBLIC_URL : il faut l'adresse où Twilio nous joint")
    account = TwilioAccount.load(settings.twilio_account)
    templates = Templates.load(settings.templates)
    logs.configure(settings.logs / "gateway.log")
    with open_store(settings) as store:
        asyncio.run(_serve(settings, store, templates, account))


async def _serve(
    settings: Settings, store: Store, templates: Templates, account: TwilioAccount
) -> None:
    """Send messages and take receipts until a signal tells to stop."""
    twilio = TwilioSettings(
        account=account,
        public_url=settings.public_url,
        validity=timedelta(hours=store.rules.reset.message_hours),
        url=settings.twilio_url,
    )
    with ThreadPoolExecutor(POOL_SIZE) as pool:
        async with open_twilio(twilio) as provider:
            dispatcher = Dispatcher(store, provider, templates, pool)
            receipts = TwilioReceipts(account, settings.public_url)
            app = application(Backend(store, pool, lambda: dispatcher.working, receipts))
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, dispatcher.stop)
            async with serving(app, settings.gateway_host, settings.gateway_port):
                click.echo("ready")
                await dispatcher.run()


@contextmanager
def dispatching(store: Store, provider: Provider, templates: Templates) -> Iterator[None]:
    """Send messages from a thread of its own as long as the block runs."""
    started: Future[tuple[asyncio.AbstractEventLoop, Dispatcher]] = Future()

    async def dispatch() -> None:
        with ThreadPoolExecutor(POOL_SIZE) as pool:
            dispatcher = Dispatcher(store, provider, templates, pool)
            started.set_result((asyncio.get_running_loop(), dispatcher))
            await dispatcher.run()

    thread = threading.Thread(target=lambda: asyncio.run(dispatch()), name="gateway")
    thread.start()
    loop, dispatcher = started.result()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(dispatcher.stop)
        thread.join()
