"""The svi command."""

import os
import sys

import click

from ivr.ami import AsteriskDownError
from ivr.asterisk import AsteriskStartError
from ivr.errors import ScriptError
from ivr.prompts import PromptError
from shared.errors import StoreError
from svi.accounts import accounts
from svi.api import api
from svi.audit import audit
from svi.call import call
from svi.calls import calls
from svi.check import check
from svi.gateway import gateway
from svi.incident import incident
from svi.keys import keys
from svi.letters import letters
from svi.life_cycle import OF_ACCOUNTS
from svi.prompts import prompts
from svi.sms import sms
from svi.tasks import tasks
from svi.transition import transition
from svi.up import up
from svi.voice import voice

EXPECTED = (AsteriskDownError, AsteriskStartError, PromptError, ScriptError, StoreError, OSError)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Serveur vocal de la Caf : le démarrer, le vérifier, voir ses appels.

    \b
    Exemples :
      svi up                  tout démarrer sur cette machine, avec des dossiers de démonstration
      svi check               vérifier le script d'appel et les fichiers d'Asterisk
      svi call --keys "92 0000354 73920461 1"     simuler un appel
      svi calls --json        les appels reçus
      svi sms list            où en sont les SMS
    """


for _command in (
    accounts,
    api,
    audit,
    call,
    calls,
    check,
    gateway,
    incident,
    keys,
    letters,
    prompts,
    sms,
    tasks,
    transition,
    up,
    voice,
):
    cli.add_command(_command)
for _command in OF_ACCOUNTS:
    accounts.add_command(_command)


def main() -> None:
    """Run a command; what went wrong is one line, and the exit code is not 0."""
    os.umask(0o077)  # what SVI_HOME holds is nobody else's business (D13)
    try:
        cli()
    except EXPECTED as error:
        click.echo(f"svi: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
