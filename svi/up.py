"""`svi up`: the whole service on one machine, to try it or to show it."""

import fcntl
import json
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

import click

from ivr.ami import AmiLink, AsteriskDownError
from ivr.asterisk import Asterisk, AsteriskSettings
from ivr.script import Script
from ivr.script_files import load_script
from ivr.server import VoiceServer
from shared import logs
from shared.files import write_whole
from shared.models import Route
from shared.secret import Secret
from shared.store import Store
from sms.provider import Outgoing
from sms.providers.file import FileProvider
from sms.templates import Templates
from svi import demo
from svi.gateway import dispatching
from svi.prompts import build_prompts
from svi.service import (
    housekeeping,
    load_playable_script,
    load_settings,
    open_database,
    open_store,
    prepare_home,
    raise_file_limit,
)
from svi.settings import Settings
from svi.telephone.server import Telephone
from svi.voice import POLL_SECONDS, stopped_by_signal

# Everything has ended 10 s after Ctrl-C: calls may end by themselves, then hear an apology of 4 s.
CALLS_SECONDS = 2.5
APOLOGY_SECONDS = 5.0
ASTERISK_SECONDS = 1.0
START_SECONDS = 30.0
AMI_SECONDS = 5.0


@click.command()
def up() -> None:
    """Démarre tout sur cette machine, avec des dossiers de démonstration.

    Un téléphone, page web de cette machine seule, permet de l'appeler.

    \b
    Exemples :
      svi up
      SVI_HOME=/tmp/essai SVI_SIP_PORT=5070 SVI_TELEPHONE_PORT=4590 svi up      une autre à côté
    """
    settings = load_settings()
    raise_file_limit()
    with stopped_by_signal(), ExitStack() as stack:
        stack.enter_context(_alone(settings))
        prepare_home(settings)
        if not settings.database_url:  # the one in SVI_HOME is its own
            with open_database(settings) as database:
                database.migrate()
        build_prompts(settings, load_script(settings.dialplans))
        script = load_playable_script(settings)
        logs.configure(settings.logs / "voice.log")
        store = stack.enter_context(open_store(settings))
        stack.enter_context(housekeeping(store))
        demo.refuse_real_people(settings, store)
        demo.fill(store)
        telephone = Telephone(settings.telephone_port, _free_port(), script.lines)
        page = stack.enter_context(telephone.served())
        for route in (Route.SMS, Route.MAIL):
            stack.enter_context(_messages_shown(settings, store, route, telephone))
        asterisk = stack.enter_context(_running(settings, store, script, telephone))
        click.echo(_screen(settings, page))
        click.echo("ready")
        while asterisk.alive():
            time.sleep(POLL_SECONDS)
        raise click.ClickException(
            f"Asterisk s'est arrêté de lui-même ; voir {settings.home / 'asterisk/log/messages'}"
        )


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Keep others out of this SVI_HOME."""
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (settings.home / "lock").open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise click.ClickException(
                f"{settings.home} : un autre svi up s'en sert ; donnez un autre SVI_HOME"
            ) from None
        yield


def _messages_shown(
    settings: Settings, store: Store, route: Route, telephone: Telephone
) -> AbstractContextManager[None]:
    """Write messages to a file, to the screen and to the page, instead of sending them."""

    def show(message: Outgoing) -> None:
        _print(message)
        if route == Route.SMS:
            telephone.show(message)

    provider = FileProvider(settings.messages, show, route, only_invented_people=True)
    return dispatching(store, provider, Templates.load(settings.templates, route))


def _print(message: Outgoing) -> None:
    origin, text = f"de {message.sender}", message.text.reveal()
    if message.subject:
        click.echo(f"Courriel {origin} à {message.destination} : {message.subject}\n\n{text}")
    else:
        click.echo(f"SMS {origin} au {message.destination} : {text}")


@contextmanager
def _running(
    settings: Settings, store: Store, script: Script, telephone: Telephone
) -> Iterator[Asterisk]:
    """Run the voice server and Asterisk; in the end let calls end before either stops."""
    ami_port, ami_secret = _free_port(), Secret(secrets.token_hex(16))
    link = AmiLink("127.0.0.1", ami_port, "svi", ami_secret)
    voice = VoiceServer(store, script, trace=telephone.trace, move=link.announce_incident)
    host, port = voice.address
    asterisk = Asterisk(
        AsteriskSettings(
            sip_host=settings.sip_host,
            sip_port=settings.sip_port,
            agi_address=f"{host}:{port}",
            ami_port=ami_port,
            ami_secret=ami_secret,
            home=settings.home / "asterisk",
            root=settings.asterisk,
            prompts=settings.prompts,
            addition=telephone.asterisk_files,
        ),
        settings.dialplans / "asterisk",
    )
    with ExitStack() as stack:
        voice.start()
        stack.callback(voice.stop, 0)
        stack.callback(asterisk.stop, ASTERISK_SECONDS)
        asterisk.start()
        asterisk.wait_ready(START_SECONDS)
        stack.enter_context(link)
        link.wait_up(AMI_SECONDS)
        stack.callback(settings.ami.unlink, missing_ok=True)
        _tell_ami(settings, ami_port, ami_secret)
        stack.callback(_let_calls_end, voice, link)
        yield asterisk


def _let_calls_end(voice: VoiceServer, link: AmiLink) -> None:
    """Take no more calls, let some end by themselves, have Asterisk apologise to the others."""
    click.echo("arrêt en cours")
    with suppress(AsteriskDownError):  # then there is nobody to apologise to
        voice.stop(CALLS_SECONDS, before_cut=lambda: _apologise(link))
        deadline = time.monotonic() + APOLOGY_SECONDS
        while link.calls() and time.monotonic() < deadline:
            time.sleep(0.1)


def _apologise(link: AmiLink) -> None:
    for call in link.calls():
        link.apologise(call.channel)


def _tell_ami(settings: Settings, port: int, secret: Secret) -> None:
    """Write down how `svi calls` reaches Asterisk."""
    reach = {"host": "127.0.0.1", "port": port, "user": "svi", "secret": secret.reveal()}
    write_whole(settings.ami, json.dumps(reach), mode=0o600)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _screen(settings: Settings, page: str) -> str:
    """Say what to dial and type."""
    rows = "\n".join(f"  {d.department:<11}  {d.number}   {d.password}" for d in demo.DOSSIERS)
    first = demo.DOSSIERS[0]
    return f"""
Le serveur vocal répond. Pour l'appeler de cette machine, ouvrez dans un navigateur :

    {page}

ou, avec un téléphone SIP, appelez :

    sip:3230@{settings.sip_host}:{settings.sip_port}

Tapez le département, le numéro d'allocataire et le mot de passe :

  département  numéro    mot de passe
{rows}

puis 1 pour le dernier paiement. « Mot de passe oublié » est # à la place du mot de passe, puis 1 :
le SMS s'affiche ici et s'ajoute à {settings.messages}. Sans son, dans un autre terminal :

    .venv/bin/svi call --keys "{first.department} {first.number} {first.password} 1"

Les données et les journaux sont dans {settings.home}. Ctrl-C arrête tout.
"""
