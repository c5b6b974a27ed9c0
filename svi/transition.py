"""`svi transition`: who may log in with what, where and when (D10)."""

from datetime import datetime

import click

from shared.clock import system_clock
from shared.rules import Channel, CredentialKind, Identifier, Passage, Way, load_rules
from svi.instants import in_french, read_instant
from svi.service import load_settings

HEADER = ("avec", "identifiant", "où", "accès", "depuis", "jusqu'à")
CREDENTIALS = {
    CredentialKind.PASSWORD: "mot de passe à 8 chiffres",
    CredentialKind.CODE: "code confidentiel à 4 chiffres",
    CredentialKind.WEB: "mot de passe du compte personnel",
    CredentialKind.ONE_TIME: "code à usage unique",
}
IDENTIFIERS = {
    Identifier.NUMBER: "numéro d'allocataire",
    Identifier.NIR: "NIR",
    Identifier.PROVISIONAL: "identifiant provisoire",
}
CHANNELS = {
    Channel.VOICE: "téléphone",
    Channel.WEB: "caf.fr",
    Channel.APP: "application",
    Channel.KIOSK: "borne",
}
WAYS = {Way.LOGIN: "connexion", Way.BASCULE: "première connexion"}


@click.group()
def transition() -> None:
    """Montre qui peut se connecter, avec quoi, où et quand.

    \b
    Exemple :
      svi transition show --on 2022-04-01
    """


@transition.command()
@click.option(
    "--on",
    metavar="DATE",
    callback=read_instant,
    help="Le jour, ou l'instant : 2021-10-09T12:00.",
)
def show(on: datetime | None) -> None:
    """Montre ce que la table de transition permet, maintenant ou à l'instant donné.

    Les dates sont à l'heure de Paris ; un jour est pris à son début. Ce qui n'est pas dans la
    liste est refusé.

    \b
    Exemples :
      svi transition show
      svi transition show --on 2021-10-09T12:00
    """
    rules = load_rules(load_settings().rules)
    instant = on or system_clock()
    rows = [
        _row(line)
        for line in rules.transition
        if line.way is not Way.CLOSED and line.holds_at(instant)
    ]
    click.echo(f"Le {in_french(instant)}, heure de Paris :")
    if not rows:
        click.echo("personne ne peut se connecter")
        return
    widths = [max(map(len, column)) for column in zip(HEADER, *rows, strict=True)]
    for row in (HEADER, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _row(line: Passage) -> tuple[str, ...]:
    return (
        CREDENTIALS[line.credential],
        IDENTIFIERS[line.identifier],
        CHANNELS[line.channel],
        WAYS[line.way],
        in_french(line.since) if line.since else "toujours",
        in_french(line.until) if line.until else "sans fin",
    )
