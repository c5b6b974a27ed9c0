"""`svi check`: is everything right that admins edit?"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from ivr.asterisk import check_files
from ivr.codes import unspoken
from ivr.errors import ScriptError
from ivr.prompts import Catalogue
from ivr.script_files import load_script
from shared.errors import SettingsError
from shared.letters.texts import load_texts
from shared.rules import load_rules
from sms import http_description, templates
from svi.service import load_settings


@click.command()
def check() -> None:
    """Vérifie le script d'appel, les règles, les textes et les fichiers d'Asterisk.

    Avec SVI_HTTP_PROVIDER, la description de l'opérateur SMS aussi, sans ses secrets.

    Chaque défaut tient en une ligne : fichier, clé, raison. Rien n'est démarré ni modifié.

    \b
    Exemple :
      SVI_DIALPLANS=/etc/svi/dialplans svi check
    """
    settings = load_settings()
    findings: list[str] = []
    rules = None
    with _collected(findings):
        rules = load_rules(settings.rules)
    with _collected(findings):
        load_texts(settings.letter_texts)
    findings += templates.check(settings.templates)
    if settings.http_provider:
        findings += http_description.check(settings.http_provider)
    script = catalogue = None
    with _collected(findings):
        script = load_script(settings.dialplans)
    with suppress(ScriptError):  # reported with the script
        catalogue = Catalogue.load(settings.dialplans)
    if rules is not None and catalogue is not None:
        findings += (f"{settings.rules}: {it}" for it in unspoken(rules.dossier.codes, catalogue))
    with _collected(findings):
        check_files(settings.dialplans / "asterisk", catalogue)
    for finding in findings:
        click.echo(finding, err=True)
    if findings or script is None:
        sys.exit(1)
    click.echo(
        f"{settings.dialplans} : {len(script.lines)} lignes, {len(script.steps)} étapes,"
        f" {len(script.catalogue.ids)} messages, tout est en ordre"
    )


@contextmanager
def _collected(findings: list[str]) -> Iterator[None]:
    """Go on after what is wrong in the block."""
    try:
        yield
    except ScriptError as error:
        findings += error.findings
    except (SettingsError, OSError) as error:
        findings.append(str(error))
