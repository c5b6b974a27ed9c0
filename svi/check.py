"""`svi check`: is everything right that admins edit?"""

import sys

import click

from ivr.asterisk import check_files
from ivr.errors import ScriptError
from ivr.script_files import load_script
from shared.errors import SettingsError
from shared.rules import load_rules
from svi.service import load_settings


@click.command()
def check() -> None:
    """Vérifie le script d'appel, les règles et les fichiers d'Asterisk.

    Chaque défaut tient en une ligne : fichier, clé, raison. Rien n'est démarré ni modifié.

    \b
    Exemple :
      SVI_DIALPLANS=/etc/svi/dialplans svi check
    """
    settings = load_settings()
    findings: list[str] = []
    try:
        load_rules(settings.rules)
    except SettingsError as error:
        findings.append(str(error))
    try:
        script = load_script(settings.dialplans)
        check_files(settings.dialplans / "asterisk", script.catalogue)
    except ScriptError as error:
        findings += error.findings
    for finding in findings:
        click.echo(finding, err=True)
    if findings:
        sys.exit(1)
    click.echo(
        f"{settings.dialplans} : {len(script.lines)} lignes, {len(script.steps)} étapes,"
        f" {len(script.catalogue.ids)} messages, tout est en ordre"
    )
