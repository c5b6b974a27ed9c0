"""`svi voice`: the voice server alone, beside an Asterisk of your own."""

import signal
import threading

import click

from ivr.server import VoiceServer
from shared import logs
from svi.service import housekeeping, load_playable_script, load_settings, open_store

GRACE_SECONDS = 4.0


@click.command()
def voice() -> None:
    """Démarre le serveur vocal seul, à côté d'un Asterisk déjà installé.

    Il écoute en FastAGI sur SVI_AGI_HOST et SVI_AGI_PORT : une adresse locale ou un réseau privé,
    car FastAGI n'authentifie personne. Plusieurs peuvent écouter sur le même port.

    \b
    Exemple :
      SVI_AGI_PORT=4573 svi voice
    """
    settings = load_settings()
    script = load_playable_script(settings)
    logs.configure(settings.logs / "voice.log")
    with open_store(settings) as store, housekeeping(store):
        server = VoiceServer(store, script, (settings.agi_host, settings.agi_port))
        server.start()
        click.echo("ready")
        until_signal().wait()
        server.stop(GRACE_SECONDS)


def until_signal() -> threading.Event:
    """Give an event that Ctrl-C or SIGTERM sets."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop
