"""`svi prompts`: the audio of what callers hear."""

import click

from ivr.prompts import build
from ivr.script import Script
from ivr.script_files import load_script
from svi.progress import progress
from svi.service import load_settings, prepare_home
from svi.settings import Settings


@click.group()
def prompts() -> None:
    """Les messages que l'appelant entend.

    \b
    Exemple :
      svi prompts build
    """


@prompts.command("build")
def build_command() -> None:
    """Fabrique l'audio des messages dont le texte a changé.

    \b
    Exemple :
      svi prompts build
    """
    settings = load_settings()
    script = load_script(settings.dialplans)
    prepare_home(settings)
    build_prompts(settings, script)


def build_prompts(settings: Settings, script: Script) -> None:
    """Build what is not up to date, and show how far it is."""
    with progress("messages audio") as show:
        build(script.catalogue, settings.prompts, script.silences_ms(), show)
