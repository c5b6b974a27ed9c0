"""`svi incident`: close the service, open it again, take back what was done meanwhile (D15)."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

import click

from shared import incident as switch
from shared import voiding
from shared.clock import system_clock
from shared.files import write_whole
from shared.identifiers import CAISSE
from shared.rules import Channel
from shared.voiding import VoidResult, Window
from svi.instants import in_paris, read_instant
from svi.progress import progress
from svi.service import load_settings, open_store

RESULTS = {
    VoidResult.UNDONE: "annulés",
    VoidResult.REPLACED: "mots de passe révoqués et remplacés",
    VoidResult.REVOKED: "mots de passe révoqués, à choisir à nouveau par leur titulaire",
    VoidResult.ENDED_BEFORE: "déjà sans effet",
    VoidResult.BY_HAND: "à examiner par une personne",
}

channel_option = click.option(
    "--channel",
    type=click.Choice([channel.value for channel in switch.CHANNELS]),
    help="Ce canal seulement.",
)


def _caisse(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    if text is not None and CAISSE.fullmatch(text) is None:
        raise click.BadParameter("deux chiffres, 2A, 2B, 641, 642, 971 à 974 ou 976")
    return text


caisse_option = click.option(
    "--caisse", metavar="CAISSE", callback=_caisse, help="Cette caisse seulement."
)


@click.group()
def incident() -> None:
    """Ferme le service en cas d'incident, le rouvre, annule ce qui a été fait.

    \b
    Exemples :
      svi incident raise
      svi incident void 2021-10-10T21:00 2021-10-11T08:00 --people personnes.csv --rest reste.csv
    """


@incident.command("raise")
@channel_option
@caisse_option
def raise_command(channel: str | None, caisse: str | None) -> None:
    """Ferme tout le service, un canal ou une caisse : les sessions ouvertes s'arrêtent aussitôt.

    Les informations générales et les conseillers restent accessibles.

    \b
    Exemples :
      svi incident raise
      svi incident raise --channel voice
    """
    scope = _scope(channel, caisse)
    with open_store(load_settings()) as store:
        raised = switch.raise_incident(store, scope)
    click.echo(f"{scope} : fermé" if raised else f"{scope} : déjà fermé")


@incident.command()
@channel_option
@caisse_option
def lift(channel: str | None, caisse: str | None) -> None:
    """Rouvre ce qui a été fermé : chacun se connecte à nouveau.

    \b
    Exemple :
      svi incident lift --caisse 92
    """
    scope = _scope(channel, caisse)
    with open_store(load_settings()) as store:
        lifted = switch.lift(store, scope)
    if not lifted:
        raise click.ClickException(f"{scope} : n'est pas fermé")
    click.echo(f"{scope} : ouvert")


@incident.command()
def status() -> None:
    """Montre ce qui est fermé, et depuis quand (heure de Paris).

    \b
    Exemple :
      svi incident status
    """
    with open_store(load_settings()) as store:
        standing = switch.standing(store)
    for raised in standing:
        click.echo(f"{raised.scope} : fermé depuis le {in_paris(raised.since)}")
    if not standing:
        click.echo("rien n'est fermé")


@incident.command()
@click.argument("start", metavar="DÉBUT", callback=read_instant)
@click.argument("end", metavar="FIN", callback=read_instant)
@channel_option
@caisse_option
@click.option(
    "--except-password-changed-before",
    "changed_before",
    metavar="INSTANT",
    callback=read_instant,
    help="Sans les personnes qui avaient choisi leur mot de passe avant cet instant.",
)
@click.option(
    "--people", type=click.Path(path_type=Path), help="Où écrire les personnes concernées (CSV)."
)
@click.option(
    "--rest", type=click.Path(path_type=Path), help="Où écrire ce qui reste à examiner (CSV)."
)
def void(  # noqa: PLR0913, PLR0917 - click passes one for each option
    start: datetime,
    end: datetime,
    channel: str | None,
    caisse: str | None,
    changed_before: datetime | None,
    people: Path | None,
    rest: Path | None,
) -> None:
    """Annule ce qui a été changé de DÉBUT (compris) à FIN (non compris), heure de Paris.

    Peut être interrompu et relancé : rien n'est fait deux fois, le résultat est le même.

    \b
    Exemple :
      svi incident void 2021-10-10T21:00 2021-10-11T08:00 --channel web \\
          --except-password-changed-before 2021-10-10T21:00 --people personnes.csv --rest reste.csv
    """
    if end <= start:
        raise click.ClickException("la fin doit être après le début")
    if end > system_clock():
        raise click.ClickException("la fin est à venir : ce qui suivrait ne serait pas annulé")
    window = Window(start, end, Channel(channel) if channel else None, caisse)
    with open_store(load_settings()) as store, progress("changements") as show:
        report = voiding.void_and_report(store, window, changed_before, show)
    for result, label in RESULTS.items():
        click.echo(f"{label} : {report.counts.get(result, 0)}")
    click.echo(f"personnes concernées : {len(report.concerned)}")
    if people is not None:
        _write_csv(
            people,
            ("caisse", "numero", "role", "lu", "change", "premier", "dernier"),
            (
                (
                    one.caisse,
                    one.number,
                    one.role,
                    "oui" if one.read else "non",
                    "oui" if one.changed else "non",
                    in_paris(one.first),
                    in_paris(one.last),
                )
                for one in report.concerned
            ),
        )
    if rest is not None:
        rows = ((one.caisse, one.number, one.event, in_paris(one.at)) for one in report.by_hand)
        _write_csv(rest, ("caisse", "numero", "changement", "quand"), rows)


def _scope(channel: str | None, caisse: str | None) -> str:
    if channel and caisse:
        raise click.ClickException("--channel ou --caisse, pas les deux : en deux commandes")
    if channel:
        return switch.CHANNEL + channel
    return switch.CAISSE + caisse if caisse else switch.SERVICE


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table that only its owner may read: it holds numéros d'allocataire."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=";", lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_whole(path, text.getvalue(), mode=0o600)
