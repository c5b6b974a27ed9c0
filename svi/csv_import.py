"""What the commands that import a CSV file have in common."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from shared.csv_file import ImportRefusedError
from shared.progress import Progress
from shared.store import Store
from svi.progress import progress
from svi.service import load_settings, open_store, prepare_home

R = TypeVar("R")


def import_file(file: Path, take: Callable[[Store, Path, Progress], R], done: str) -> R:
    """Give what `take` made of the file; each of its findings is a line, and the exit code is 1.

    `done` says in French what it would have been: « importé ».
    """
    settings = load_settings()
    prepare_home(settings)
    try:
        with open_store(settings) as store, progress("lignes") as show:
            return take(store, file, show)
    except ImportRefusedError as error:
        for finding in error.findings:
            click.echo(f"{file} : {finding}", err=True)
        click.echo(f"{file} : refusé, rien n'a été {done}", err=True)
        sys.exit(1)
