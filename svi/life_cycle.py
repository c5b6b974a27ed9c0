"""`svi accounts import-passwords`, `separate`, `move`, `revoke`: a password's beginning and end."""

from pathlib import Path

import click

from shared import life_cycle
from shared.life_cycle import Key
from shared.origin import Origin
from shared.password_import import import_passwords
from shared.rules import Channel
from svi.csv_import import import_file
from svi.options import caisse_option, number_option
from svi.service import load_settings, open_store

ADMIN = Origin(Channel.ADMIN)


@click.command("import-passwords")
@click.argument("file", metavar="FICHIER", type=click.Path(path_type=Path))
def import_command(file: Path) -> None:
    """Reprend les mots de passe d'un autre système : tout, ou rien si une ligne est fausse.

    Colonnes, séparées par « ; » : caisse, numero, type (mot-de-passe ou code), procede (md5, sha1,
    sha256, chacun aussi avec -salt-first ou -salt-last, pbkdf2-sha256, argon2id), empreinte,
    cree_le (ou vide), provisoire (oui, ou vide). Ce qui est plus récent ici n'est pas remplacé.

    \b
    Exemple :
      svi accounts import-passwords mots-de-passe.csv
    """
    result = import_file(file, import_passwords, "repris")
    click.echo(
        f"{result.taken} repris, {result.unchanged} repris auparavant,"
        f" {result.outdated} laissés : il y a plus récent ici"
    )


@click.command()
@caisse_option
@number_option
def separate(caisse: str, number: str) -> None:
    """Séparation : met fin au mot de passe et en envoie un provisoire à l'allocataire.

    \b
    Exemple :
      svi accounts separate --caisse 92 --number 0000354
    """
    with open_store(load_settings()) as store:
        life_cycle.separate(store, Key(caisse, number), ADMIN)
    click.echo("mot de passe remplacé")


@click.command()
@caisse_option
@number_option
@click.option("--to-caisse", metavar="CAISSE", required=True, help="La nouvelle caisse.")
@click.option(
    "--to-number", metavar="NUMÉRO", required=True, help="Les 7 chiffres du nouveau numéro."
)
def move(caisse: str, number: str, to_caisse: str, to_number: str) -> None:
    """Mutation : ferme le dossier, l'ouvre dans une autre caisse avec un mot de passe provisoire.

    \b
    Exemple :
      svi accounts move --caisse 92 --number 0000354 --to-caisse 75 --to-number 0004711
    """
    with open_store(load_settings()) as store:
        life_cycle.move(store, Key(caisse, number), Key(to_caisse, to_number), ADMIN)
    click.echo("dossier muté")


@click.command()
@caisse_option
@number_option
@click.option("--reissue", is_flag=True, help="Envoie un mot de passe provisoire.")
def revoke(caisse: str, number: str, *, reissue: bool) -> None:
    """Révoque tout de suite le mot de passe d'un dossier et ferme ses sessions.

    \b
    Exemple :
      svi accounts revoke --caisse 92 --number 0000354 --reissue
    """
    with open_store(load_settings()) as store:
        life_cycle.revoke(store, Key(caisse, number), ADMIN, reissue=reissue)
    click.echo("mot de passe révoqué")


OF_ACCOUNTS = (import_command, separate, move, revoke)
