"""Lists, as commands write them."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime

import click


def echo_list(lines: Iterable[str], *, as_json: bool = False) -> None:
    """Write each line as it comes; « rien » if there is none, except in JSON, one value a line."""
    empty = True
    for line in lines:
        click.echo(line)
        empty = False
    if empty and not as_json:
        click.echo("rien")


def json_line(shown: Mapping[str, object]) -> str:
    """Write an object as one line of JSON; instants as they are in the store, in UTC."""
    return json.dumps(shown, default=datetime.isoformat, ensure_ascii=False)
