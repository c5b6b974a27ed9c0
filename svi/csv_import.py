"""What the commands that import a CSV file have in common."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from shared.csv_file import ImportRefusedError, Progress
from shared.store import Store
from svi.service import load_settings, open_store, prepare_home

R = TypeVar("R")


def import_file(file: Path, take: Callable[[Store, Path, Progress], R], done: str) -> R:
    """Give what `take` made of the file; each of its findings is a line, and the exit code is 1.

    `done` says in French what it would have been: « importé ».
    """
    settings = load_settings()
    prepare_home(settings)
    try:
        with open_store(settings) as store, click.progressbar(length=1, label="lignes") as bar:

            def show(at: int, steps: int) -> None:
                bar.length = steps
                bar.update(at - bar.pos)

            return take(store, file, show)
    except ImportRefusedError as error:
        for finding in error.findings:
            click.echo(f"{file} : {finding}", err=True)
        click.echo(f"{file} : refusé, rien n'a été {done}", err=True)
        sys.exit(1)
