"""`svi db`: the schema of the database, and its upgrade to this program's."""

import click

from shared import schema as schemas
from svi.service import check_schema, load_settings, open_database


@click.group()
def db() -> None:
    """La base de données : son schéma, et sa mise à jour après celle du programme.

    \b
    Exemples :
      svi db status
      svi db upgrade
      svi db grant
    """


@db.command()
def status() -> None:
    """Montre le schéma de la base et celui du programme ; finit en erreur s'ils diffèrent.

    \b
    Exemple :
      svi db status
    """
    with open_database(load_settings()) as database:
        schema = database.schema()
    click.echo(f"base       {schema.revision or 'vide'}")
    click.echo(f"programme  {schema.latest}")
    if schema.missing:
        click.echo(f"manque     {' '.join(schema.missing)}")
    check_schema(schema)


@db.command()
def upgrade() -> None:
    """Met le schéma de la base à celui du programme : en entier, ou pas du tout.

    À faire services arrêtés, après une sauvegarde : aucune commande ne revient en arrière. Peut
    être interrompue et relancée ; lancée deux fois à la fois, la deuxième attend la première.

    \b
    Exemple :
      svi db upgrade
    """
    settings = load_settings()
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open_database(settings) as database:
        if not database.schema().newer:
            database.migrate(lambda revision: click.echo(f"{revision} : prêt"))
        schema = database.schema()
    check_schema(schema)
    click.echo(f"la base est au schéma {schema.latest}")


@db.command()
def grant() -> None:
    """Donne leurs droits aux rôles svi et svi_purge de PostgreSQL, qui doivent exister.

    À lancer par le propriétaire de la base (docs/securite.md), après chaque svi db upgrade ; fait
    d'abord le schéma d'une base vide. Peut être relancée.

    \b
    Exemple :
      SVI_DATABASE_URL=postgresql+psycopg://svi_owner@machine/svi svi db grant
    """
    with open_database(load_settings()) as database:
        if database.sqlite:
            raise click.ClickException("SQLite n'a pas de rôles")
        if database.schema().revision is None:
            database.migrate()
        check_schema(database.schema())
        with database.begin() as connection:
            schemas.grant(connection)
    click.echo("les rôles svi et svi_purge ont leurs droits")
