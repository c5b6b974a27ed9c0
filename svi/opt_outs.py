"""`svi opt-outs`: who wants no campaign (R24). A contact that is given is never shown (D13)."""

import click

from shared import opt_outs as store_opt_outs
from shared.contacts import Contact, read_contact
from shared.opt_outs import Source
from svi.instants import in_paris
from svi.service import load_settings, open_store


def _contact(_context: click.Context, _option: click.Parameter, text: str) -> Contact:
    contact = read_contact(text)
    if contact is None:
        raise click.BadParameter("il faut un mobile français ou une adresse de courriel")
    return contact


contact_argument = click.argument("contact", metavar="MOBILE|COURRIEL", callback=_contact)


@click.group("opt-outs")
def opt_outs() -> None:
    """Qui ne veut plus de campagnes, par mobile ou par adresse de courriel.

    Cela n'arrête jamais un code, un mot de passe ni un autre message que la personne attend.

    \b
    Exemple :
      svi opt-outs show 0612345678
    """


@opt_outs.command()
@contact_argument
def add(contact: Contact) -> None:
    """N'envoie plus de campagnes à ce contact ; celles qui attendent sont annulées.

    \b
    Exemple :
      svi opt-outs add 0612345678
    """
    with open_store(load_settings()) as store, store.database.write() as transaction:
        added = store_opt_outs.add(store, transaction, contact, Source.COMMAND)
    click.echo("plus de campagnes vers ce contact" if added else "c'était déjà le cas")


@opt_outs.command()
@contact_argument
def remove(contact: Contact) -> None:
    """Laisse de nouveau venir les campagnes, à la demande de la personne.

    \b
    Exemple :
      svi opt-outs remove claire@exemple.fr
    """
    with open_store(load_settings()) as store, store.database.write() as transaction:
        removed = store_opt_outs.remove(store, transaction, contact)
    again = "les campagnes viendront de nouveau à ce contact"
    click.echo(again if removed else "ce contact ne les refusait pas")


@opt_outs.command()
@contact_argument
def show(contact: Contact) -> None:
    """Dit si ce contact refuse les campagnes, depuis quand, et comment cela a été dit.

    \b
    Exemple :
      svi opt-outs show 0612345678
    """
    with open_store(load_settings()) as store, store.database.read() as transaction:
        found = store_opt_outs.find(store, transaction, contact)
    if found is None:
        click.echo("ce contact ne refuse pas les campagnes")
    else:
        click.echo(f"pas de campagnes depuis le {in_paris(found.at)} ({found.source})")
