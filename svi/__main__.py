"""The svi command."""

import gc
import os
import sys
from importlib import import_module

import click

from ivr.ami import AsteriskDownError
from ivr.asterisk import AsteriskStartError
from ivr.errors import ScriptError
from ivr.prompts import PromptError
from shared.errors import StoreError

EXPECTED = (AsteriskDownError, AsteriskStartError, PromptError, ScriptError, StoreError, OSError)

COMMANDS = (
    "accounts",
    "api",
    "audit",
    "call",
    "calls",
    "campaigns",
    "check",
    "db",
    "dossiers",
    "gateway",
    "incident",
    "keys",
    "letters",
    "opt-outs",
    "prompts",
    "sms",
    "tasks",
    "transition",
    "up",
    "voice",
)


class Commands(click.Group):
    """Imports a command, from the module of its name, when it is asked for: it starts sooner."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Give the names, in the order of the help."""
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        cmd_name: str,
    ) -> click.Command | None:
        """Give a command by its name, or None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        gc.disable()  # of what is imported nothing is garbage, and much is made
        command: click.Command = getattr(import_module(f"svi.{name}"), name)
        gc.enable()
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
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


def main() -> None:
    """Run a command; what went wrong is one line, and the exit code is not 0."""
    os.umask(0o077)  # what SVI_HOME holds is nobody else's business (D13)
    try:
        cli()
    except EXPECTED as error:
        click.echo(f"svi: {_line(error)}", err=True)
        sys.exit(1)


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


if __name__ == "__main__":
    main()
