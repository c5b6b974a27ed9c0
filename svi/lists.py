"""Lists, as commands write them."""

from collections.abc import Iterable

import click


def echo_list(lines: Iterable[str], *, as_json: bool = False) -> None:
    """Write each line as it comes; « rien » if there is none, except in JSON, one value a line."""
    empty = True
    for line in lines:
        click.echo(line)
        empty = False
    if empty and not as_json:
        click.echo("rien")
