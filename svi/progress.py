"""How far a long command is, as a bar."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from shared.progress import Progress


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """Give what is told how far it is; shown on a terminal only."""
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=1, label=label, file=sys.stderr, hidden=hidden) as bar:

        def show(done: int, steps: int) -> None:
            bar.length = max(steps, 1)
            bar.update(done - bar.pos)

        yield show
