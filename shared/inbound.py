"""Words that people send to a number of ours: STOP ends campaigns, each is answered (D14, R24).

A word is kept by the blind index of who sent it; its text never gets here. One provider's message
counts once, however often it is told. Who sends the same word again is answered once a day: two
machines can't keep one another busy, nor can anybody who forges a sender flood a third person.
SMPP has no name for a message, so that rule alone tells one that comes again there.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import exists, select
from sqlalchemy.orm import Session as Transaction

from shared import notices, opt_outs
from shared.clock import DAY
from shared.contacts import Contact
from shared.models import InboundMessage
from shared.notices import Notice
from shared.opt_outs import Source
from shared.store import Store

TEMPLATE = "inbound."
"""Begins the names of the templates of replies: inbound.36180.stop."""


class Keyword(StrEnum):
    """What a number of ours understands; in a message that has several the first counts."""

    STOP = "stop"
    CONTACT = "contact"
    AIDE = "aide"


@dataclass(frozen=True)
class Word:
    """A word, who sent it, and to what number; `provider_id` is None where there is no such name.

    repr hides who it was.
    """

    provider: str
    provider_id: str | None
    contact: Contact
    called: str
    keyword: Keyword


def take(store: Store, word: Word) -> bool:
    """Do what a word asks for; say whether it is answered."""
    index, now = word.contact.index(store.keys), store.clock()
    with store.database.write() as transaction:
        # The same message may be told to two gateways at once.
        store.database.lock(transaction, index)
        if _told_before(transaction, word):
            return False
        answered = not _answered_lately(store, transaction, word)
        row = InboundMessage(
            provider=word.provider,
            provider_id=word.provider_id,
            contact_index=index,
            called=word.called,
            keyword=word.keyword,
            at=now,
            answered=answered,
        )
        transaction.add(row)
        if word.keyword is Keyword.STOP:
            opt_outs.add(store, transaction, word.contact, Source.SMS)
        if answered:
            life = timedelta(minutes=store.rules.inbound.reply_minutes)
            reply = f"{TEMPLATE}{word.called}.{word.keyword}"
            notices.queue(store, transaction, Notice(reply, None, word.contact, {}, now + life))
    return answered


def _told_before(transaction: Transaction, word: Word) -> bool:
    if word.provider_id is None:
        return False
    same = exists().where(
        InboundMessage.provider == word.provider, InboundMessage.provider_id == word.provider_id
    )
    return bool(transaction.scalar(select(same)))


def _answered_lately(store: Store, transaction: Transaction, word: Word) -> bool:
    lately = exists().where(
        InboundMessage.contact_index == word.contact.index(store.keys),
        InboundMessage.at > store.clock() - DAY,
        InboundMessage.called == word.called,
        InboundMessage.keyword == word.keyword,
        InboundMessage.answered,
    )
    return bool(transaction.scalar(select(lately)))
