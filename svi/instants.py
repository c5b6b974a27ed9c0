"""Instants as admins write and read them: Paris time, unless an offset says otherwise."""

from datetime import UTC, datetime

import click

from shared.rules import PARIS


def read_instant(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> datetime | None:
    """Read `2021-10-10T21:00` as UTC; a day is taken at its beginning. For click's `callback`."""
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
        return (instant if instant.tzinfo else instant.replace(tzinfo=PARIS)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter("une date comme 2021-10-10, ou 2021-10-10T21:00") from None


def in_paris(instant: datetime) -> str:
    """Write an instant in Paris time, to the second."""
    return f"{instant.astimezone(PARIS):%Y-%m-%d %H:%M:%S}"
