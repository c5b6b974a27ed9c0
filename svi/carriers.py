"""Who carries our messages: read from the settings, then opened in the gateway."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import click
import structlog

from shared import outbox
from shared.models import MessageState, Route
from shared.store import Store
from sms import http_description, metrics
from sms.callbacks import Callbacks, TwilioCallbacks
from sms.inbound import Inbox
from sms.provider import Provider
from sms.providers.file import FileProvider
from sms.providers.http_json import HttpOperator, open_http_json, receipts_of
from sms.providers.smpp import SmppAccount, SmppProvider, SmppSettings, open_smpp
from sms.providers.smtp import SmtpAccount, SmtpProvider, SmtpSettings
from sms.providers.twilio import (
    TwilioAccount,
    TwilioMessages,
    TwilioProvider,
    TwilioReceipts,
    TwilioSettings,
    open_twilio,
)
from svi.settings import HTTP, Settings

Account = HttpOperator | SmppAccount | TwilioAccount
"""Who we are to one who carries our SMS."""

log = structlog.get_logger(__name__)


def names(settings: Settings) -> Mapping[str, Route]:
    """Name the providers of an installation as attempts do, the preferred ones first.

    SettingsError if an operator's file can't be read.
    """
    if settings.demo:
        return {"file-sms": Route.SMS, "file-mail": Route.MAIL}
    by_sms = [
        http_description.load(_file(settings)).name if name == HTTP else name
        for name in settings.sms_order
    ]
    by_mail = [SmtpProvider.name] if settings.smtp_host else []
    return dict.fromkeys(by_sms, Route.SMS) | dict.fromkeys(by_mail, Route.MAIL)


def accounts(settings: Settings) -> Iterator[Account]:
    """Read who we are to those who carry our SMS, in their order; none in the demonstration.

    ClickException where one lacks what it needs.
    """
    for name in () if settings.demo else settings.sms_order:
        if name == SmppProvider.name:
            _needed("SVI_SMPP_HOST", settings.smpp_host, "le centre SMS de smpp")
            yield SmppAccount.load(settings.smpp_account)
        elif name == HTTP:
            yield HttpOperator.load(_file(settings), settings.public_url)
        else:
            _needed("SVI_PUBLIC_URL", settings.public_url, "l'adresse où Twilio nous joint")
            yield TwilioAccount.load(settings.twilio_account)


def mail(settings: Settings) -> SmtpSettings | None:
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


@asynccontextmanager
async def sms_providers(
    settings: Settings, store: Store, those: Sequence[Account], inbox: Inbox, pool: Executor
) -> AsyncIterator[Sequence[Provider]]:
    """Open the ways out for SMS, in their order; a file when this is a demonstration."""
    if settings.demo:
        yield [FileProvider(settings.messages, lambda _: None, only_invented_people=True)]
        return
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(_opened(settings, store, account, inbox, pool))
            for account in those
        ]


def mail_providers(
    settings: Settings, store: Store, server: SmtpSettings | None
) -> Iterator[Provider]:
    """Give the way out for mails, if there is one."""
    if settings.demo:
        yield FileProvider(settings.messages, lambda _: None, Route.MAIL, only_invented_people=True)
    elif server is not None:
        yield SmtpProvider(server, store.clock)
    else:
        log.warning("mails_wait_and_expire", missing="SVI_SMTP_HOST")


def callbacks(settings: Settings, those: Sequence[Account], inbox: Inbox) -> Callbacks:
    """Give what takes the requests of those who carry our SMS."""
    url, twilio, operators = settings.public_url, None, []
    for account in those:
        if isinstance(account, TwilioAccount):
            receipts, messages = TwilioReceipts(account, url), TwilioMessages(account, url)
            twilio = TwilioCallbacks(receipts, messages, inbox)
        elif isinstance(account, HttpOperator) and (told := receipts_of(account)) is not None:
            operators.append(told)
    return Callbacks(twilio, operators)


def _needed(name: str, value: object, what: str) -> None:
    if not value:
        raise click.ClickException(f"{name} : il faut {what}")


def _file(settings: Settings) -> Path:
    """Give the file that describes an operator; ClickException if there is none."""
    _needed("SVI_HTTP_PROVIDER", settings.http_provider, "le fichier qui décrit l'opérateur http")
    return settings.http_provider or Path()


def _opened(
    settings: Settings, store: Store, account: Account, inbox: Inbox, pool: Executor
) -> AbstractAsyncContextManager[Provider]:
    """Give one way out for SMS, still to be opened."""
    match account:
        case HttpOperator():
            metrics.know_codes(account.description.name, account.description.codes)
            if account.description.receipts is not None:
                metrics.expect_receipts(account.description.name)
            return open_http_json(account, store.clock)
        case SmppAccount():
            metrics.expect_receipts(SmppProvider.name)
            smpp = SmppSettings(
                account=account,
                host=settings.smpp_host,
                port=settings.smpp_port,
                tls=ssl.create_default_context() if settings.smpp_tls else None,
                receipt_ids=settings.smpp_receipt_ids,
            )
            keep = partial(_keep_receipt, store, pool)
            return open_smpp(smpp, keep, inbox.take, store.chance)
        case TwilioAccount():
            metrics.expect_receipts(TwilioProvider.name)
            twilio = TwilioSettings(
                account=account,
                public_url=settings.public_url,
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
