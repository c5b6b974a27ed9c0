"""`svi call`: a call without a telephone, and without Asterisk."""

import re
import sys
from queue import Empty, Queue

import click

from ivr.script_files import load_script
from ivr.server import VoiceServer
from ivr.simulated import HANG_UP, SimulatedCall
from shared import logs
from svi.service import load_settings, open_store, prepare_home

END_SECONDS = 60.0

EXIT_CODES = {
    "authenticated": 0,
    "transferred": 3,
    "refused": 4,
    "reset_requested": 5,
    "abandoned": 6,
    "closed": 7,
    "failed": 8,
}


@click.command(
    epilog="Codes de sortie : " + ", ".join(f"{code} {name}" for name, code in EXIT_CODES.items())
)
@click.option(
    "--keys", metavar="TOUCHES", required=True, help="Les touches, un groupe pour chaque question."
)
@click.option(
    "--line", metavar="NUMÉRO", default="3230", show_default=True, help="Le numéro appelé."
)
@click.option(
    "--caller", metavar="NUMÉRO", default="", help="Le numéro de l'appelant ; vide : masqué."
)
def call(keys: str, line: str, caller: str) -> None:
    """Simule un appel sur les données de SVI_HOME et montre ce que l'appelant entend.

    Chaque groupe de touches répond à une question, d'un trait ; ce qui dépasse est tapé d'avance.
    Après le dernier groupe l'appelant raccroche. Les touches d'un mot de passe sont masquées.
    C'est un vrai appel pour le dossier : les essais comptent et l'appel est enregistré.

    \b
    Exemples :
      svi call --keys "92 0000354 73920461 1"
      svi call --keys "92 0000354 #" --caller +33612345678
    """
    groups = _groups(keys)
    settings = load_settings()
    script = load_script(settings.dialplans)
    if line not in script.lines:
        raise click.ClickException(
            f"--line : pas de telle ligne ; il y a {', '.join(script.lines)}"
        )
    prepare_home(settings)
    logs.configure(settings.logs / "voice.log")
    transcript = _Transcript()
    with open_store(settings) as store:
        server = VoiceServer(store, script, trace=lambda _: transcript)
        server.start()
        try:
            with SimulatedCall(server.address, line=line, caller=caller, groups=groups):
                outcome = transcript.outcome.get(timeout=END_SECONDS)
        except Empty:
            raise click.ClickException(
                f"l'appel n'est pas fini après {END_SECONDS:g} s ; voir {settings.logs}"
            ) from None
        finally:
            server.stop(0)
    click.echo(f"fin : {outcome}")
    sys.exit(EXIT_CODES[outcome])


def _groups(keys: str) -> list[str]:
    """Give what the caller does at each question; a wrong group is not quoted: it may be secret."""
    groups = keys.split()
    for position, group in enumerate(groups, start=1):
        if not re.fullmatch(r"[0-9*#]+", group):
            raise click.ClickException(
                f"--keys, groupe {position} : un téléphone n'a que les touches 0 à 9, * et #"
            )
    return [*groups, HANG_UP]


class _Transcript:
    """Prints the call as it goes."""

    def __init__(self) -> None:
        self.outcome: Queue[str] = Queue()

    def said(self, text: str) -> None:
        click.echo(f"« {text} »")

    def keyed(self, keys: str) -> None:
        click.echo(f"    {keys}")

    def ended(self, outcome: str) -> None:
        self.outcome.put(outcome)
