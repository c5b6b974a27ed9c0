"""Runs the benchmarks: all of them, or those named (`python -m bench agi logins resets`)."""

import click

from bench import agi, logins, resets

PARTS = {"agi": agi.run, "logins": logins.run, "resets": resets.run}


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice([*PARTS]))
def main(parts: tuple[str, ...]) -> None:
    """Measure the service beside its peers; a few minutes on two cores."""
    for part in parts or PARTS:
        PARTS[part]()


main()
