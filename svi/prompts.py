"""`svi prompts`: the audio of what callers hear."""

import click

from ivr.prompts import build
from ivr.script import Script
from ivr.script_files import load_script
from svi.service import load_settings
from svi.settings import Settings


@click.group()
def prompts() -> None:
    """Les messages que l'appelant entend."""


@prompts.command("build")
def build_command() -> None:
    """Fabrique l'audio des messages dont le texte a changé.

    \b
    Exemple :
      svi prompts build
    """
    settings = load_settings()
    settings.prompts.mkdir(parents=True, exist_ok=True)
    build_prompts(settings, load_script(settings.dialplans))


def build_prompts(settings: Settings, script: Script) -> None:
    """Build what is not up to date, with a progress bar if there is anything to build."""
    with click.progressbar(length=1, label="messages audio") as bar:

        def show(done: int, todo: int) -> None:
            bar.length = todo
            bar.update(done - bar.pos)

        build(script.catalogue, settings.prompts, script.silences_ms(), show)
        bar.finish()
