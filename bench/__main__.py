"""Runs the benchmarks: all of them, or those named (`python -m bench agi logins resets`)."""

from functools import partial

import click

from bench import agi, campaign, intake, logins, resets, sends

PARTS = {
    "agi": agi.run,
    "logins": logins.run,
    "resets": resets.run,
    "intake": intake.run,
    "sends": sends.run,
    "campaign": campaign.run,
}


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice([*PARTS]))
@click.option("--messages", default=campaign.CAMPAIGN, help="of the campaign; fewer are quicker")
def main(parts: tuple[str, ...], messages: int) -> None:
    """Measure the service beside its peers; about twenty minutes on two cores."""
    runs = PARTS | {"campaign": partial(campaign.run, messages)}
    for part in parts or runs:
        runs[part]()


main()
