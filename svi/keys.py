"""`svi keys`: the keys that live outside the database (D13)."""

import click

from shared import rotation
from shared.clock import system_clock
from shared.keyring import KeyRing
from shared.rules import load_rules
from svi.instants import in_paris
from svi.progress import progress
from svi.service import load_settings, open_store


@click.group()
def keys() -> None:
    """Le trousseau de clés, hors de la base : sans lui, rien de ce qu'elle scelle ne se lit.

    \b
    Exemples :
      SVI_KEYS=/run/secrets/keys svi keys create
      svi keys status
      svi keys rotate
    """


@keys.command()
def create() -> None:
    """Fabrique un trousseau neuf dans SVI_KEYS ; refuse d'en remplacer un.

    Les serveurs vocaux et les passerelles d'une même base ont le même : à copier, et à sauvegarder
    ailleurs que la base.

    \b
    Exemple :
      SVI_KEYS=/run/secrets/keys svi keys create
    """
    settings = load_settings()
    settings.keys.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    KeyRing.create(settings.keys)
    click.echo(f"{settings.keys} : trousseau créé ; sauvegardez-le ailleurs que la base")


@keys.command()
def status() -> None:
    """Montre l'âge des clés ; finit en erreur s'il faut en changer.

    \b
    Exemple :
      svi keys status
    """
    settings = load_settings()
    ring = KeyRing.load(settings.keys)
    rotating = ", changement en cours" if len(ring.sealing) > 1 else ""
    click.echo(f"clé de scellement   {ring.current}{rotating}")
    since = f"du {in_paris(ring.pseudonyms_since)}" if ring.pseudonyms_since else "d'âge inconnu"
    click.echo(f"clé de pseudonymes  {since}")
    if rotation.pseudonyms_overdue(ring, load_rules(settings.rules).retention, system_clock()):
        raise click.ClickException(
            "la clé de pseudonymes est à renouveler ; lancez : svi keys pseudonyms"
        )


@keys.command()
def add() -> None:
    """Ajoute une clé, connue mais pas encore utilisée.

    À faire avant « rotate » quand plusieurs machines ont le fichier des clés : le copier d'abord
    sur chacune. Sur une seule machine, « rotate » suffit.

    \b
    Exemple :
      svi keys add
    """
    path = load_settings().keys
    version = rotation.add_key(KeyRing.load(path), path)
    click.echo(f"clé {version} ajoutée : copiez {path} sur chaque machine, puis svi keys rotate")


@keys.command()
def rotate() -> None:
    """Passe toutes les données sous une nouvelle clé et détruit l'ancienne, sans interruption.

    Peut être interrompu et relancé. L'ancien fichier reste à côté, en « .before », jusqu'à la fin.

    \b
    Exemple :
      svi keys rotate
    """
    settings = load_settings()
    with open_store(settings) as store, progress("valeurs") as show:
        rotated = rotation.rotate(store, settings.keys, show)
    click.echo(f"{rotated.resealed} valeurs sous la clé {rotated.version}, ancienne clé détruite")
    if rotated.damaged:
        raise click.ClickException(
            f"{rotated.damaged} valeurs sont endommagées : aucune clé ne les ouvre"
        )


@keys.command()
def pseudonyms() -> None:
    """Détruit la clé des pseudonymes des appels : ceux d'avant ne mènent plus à personne.

    À faire chaque mois : la tâche à programmer est dans docs/deployment.md.

    \b
    Exemple :
      svi keys pseudonyms
    """
    path = load_settings().keys
    rotation.renew_pseudonyms(KeyRing.load(path), path, system_clock())
    click.echo("nouvelle clé de pseudonymes, ancienne clé détruite")
