"""A campaign's file of recipients: looked through, and imported whole or not at all (R24).

It is read twice, a line at a time. First every line is judged and nothing is stored. Then they are
stored in batches, so that codes never wait for an import; till the last of them the campaign can't
start. One that was cut off in the middle stays so, and is cancelled like any other.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path

from shared import campaign_hours, campaigns, opt_outs
from shared.campaigns import ADMIN, Move, Plan, Recipient, Texts
from shared.csv_file import Finding, ImportRefusedError
from shared.progress import Progress, unheard
from shared.recipients import read_file
from shared.store import Store

BATCH = 500
HALVES = 2  # of the work: judging, storing


@dataclass
class Survey:
    """What a file would come to: who would get a message by zone, and who would not."""

    by_zone: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    opted_out: int = 0
    findings: list[Finding] = field(default_factory=list)

    def end(self, store: Store) -> datetime:
        """Estimate when all of it would have gone, were it started now."""
        rules = store.rules.campaign
        return campaign_hours.end_of(rules, self.by_zone, store.clock(), rules.per_second)


def survey(
    store: Store, texts: Texts, plan: Plan, file: Path, report: Progress = unheard
) -> Survey:
    """Look through a file and store nothing; SettingsError if it cannot be read."""
    found, known = Survey(), set[bytes]()
    for batch in _batches(read_file(file, texts, plan, found.findings, report)):
        zones = {one.contact.index(store.keys): one.zone for one in batch}
        new = zones.keys() - known
        known |= new
        with store.database.read() as transaction:
            out = opt_outs.opted_out(transaction, new)
        found.duplicates += len(batch) - len(new)
        found.opted_out += len(out)
        found.by_zone.update(zones[index] for index in new - out)
    return found


def import_file(
    store: Store, texts: Texts, plan: Plan, file: Path, report: Progress = unheard
) -> Survey:
    """Make a campaign of a file, an admin's, and tell what is in it.

    ImportRefusedError, SettingsError, NameTakenError.
    """
    judged = survey(store, texts, plan, file, lambda done, size: report(done, HALVES * size))
    if judged.findings:
        raise ImportRefusedError(*judged.findings)
    campaign = campaigns.create(store, ADMIN, plan, loading=True)
    changed: list[Finding] = []  # since it was judged
    rows = read_file(
        file, texts, plan, changed, lambda done, size: report(size + done, HALVES * size)
    )
    try:
        for batch in _batches(rows):
            campaigns.add(store, campaign, batch)
        if changed:
            raise ImportRefusedError(*changed)
    except BaseException:
        campaigns.move(store, ADMIN, campaign.id, Move.CANCEL)
        raise
    campaigns.loaded(store, campaign.id)
    return judged


def _batches(rows: Iterator[Recipient]) -> Iterator[list[Recipient]]:
    while batch := list(islice(rows, BATCH)):
        yield batch
