"""`svi voice`: the voice server alone, beside an Asterisk of your own."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import click
import structlog

from ivr.incidents import Move
from ivr.server import VoiceServer
from shared import logs
from svi import demo
from svi.service import (
    ami_link,
    housekeeping,
    load_playable_script,
    load_settings,
    open_store,
    prepare_home,
    raise_file_limit,
)
from svi.settings import Settings

GRACE_SECONDS = 4.0
POLL_SECONDS = 0.5

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

log = structlog.get_logger(__name__)


class Stopped(BaseException):
    """Ctrl-C or SIGTERM came; like KeyboardInterrupt, nothing for others to catch."""


@click.command()
def voice() -> None:
    """Démarre le serveur vocal seul, à côté d'un Asterisk déjà installé.

    Il écoute en FastAGI sur SVI_AGI_HOST et SVI_AGI_PORT : une adresse locale ou un réseau privé,
    car FastAGI n'authentifie personne. Plusieurs peuvent écouter sur le même port.

    Avec SVI_AMI, qui dit où joindre l'Asterisk, un incident interrompt les appels en cours ; sans,
    les appelants l'apprennent à l'accès suivant.

    \b
    Exemple :
      SVI_AGI_PORT=4573 svi voice
    """
    settings = load_settings()
    raise_file_limit()
    prepare_home(settings)
    script = load_playable_script(settings)
    logs.configure(settings.logs / "voice.log")
    with (
        stopped_by_signal(),
        open_store(settings) as store,
        housekeeping(store),
        ExitStack() as stack,
    ):
        if settings.demo:
            demo.refuse_real_people(settings, store)
            demo.fill(store)
        address = settings.agi_host, settings.agi_port
        server = VoiceServer(store, script, address, move=_move(settings, stack))
        server.start()
        try:
            click.echo("ready")
            while server.alive:
                time.sleep(POLL_SECONDS)
            raise click.ClickException(
                f"le serveur vocal s'est arrêté de lui-même ; voir {settings.logs / 'voice.log'}"
            )
        finally:
            server.stop(GRACE_SECONDS)


def _move(settings: Settings, stack: ExitStack) -> Move | None:
    """Give what moves calls in progress (D15), if there is a manager that may do so."""
    if not settings.ami.exists():
        log.warning("calls_not_moved", why=f"{settings.ami} : ce fichier n'existe pas")
        return None
    return stack.enter_context(ami_link(settings)).announce_incident


@contextmanager
def stopped_by_signal() -> Iterator[None]:
    """Run the block until Ctrl-C or SIGTERM; a second one does not disturb how it ends."""

    def stop(*_: object) -> None:
        for number in _STOP_SIGNALS:
            signal.signal(number, lambda *_: None)
        raise Stopped

    for number in _STOP_SIGNALS:
        signal.signal(number, stop)
    with suppress(Stopped):
        yield
