"""Instants as admins write and read them: Paris time, unless an offset says otherwise."""

from datetime import UTC, datetime

import click

from shared.rules import PARIS


def read_instant(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> datetime | None:
    """Read `2021-10-10T21:00` as UTC; a day is taken at its beginning. For click's `callback`."""
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
        return (instant if instant.tzinfo else instant.replace(tzinfo=PARIS)).astimezone(UTC)
    except (ValueError, OverflowError):
        name = parameter.get_error_hint(context).strip("'")
        reason = "une date comme 2021-10-10, ou 2021-10-10T21:00"
        raise click.ClickException(f"{name} : {reason}") from None


def in_paris(instant: datetime) -> str:
    """Write an instant in Paris time, to the second."""
    return f"{instant.astimezone(PARIS):%Y-%m-%d %H:%M:%S}"


def in_french(instant: datetime) -> str:
    """Write an instant in Paris time as a sentence has it, to the minute."""
    return f"{instant.astimezone(PARIS):%d/%m/%Y %H:%M}"
