"""What people write to us: STOP, CONTACT and AIDE, at the numbers where replies are read (D14)."""

import asyncio
import re
import unicodedata
from collections.abc import Collection
from concurrent.futures import Executor

import structlog

from shared import inbound
from shared.contacts import Contact
from shared.identifiers import e164, takes_sms
from shared.inbound import Keyword, Word
from shared.models import Route
from shared.store import Store
from sms import metrics
from sms.provider import Received

log = structlog.get_logger(__name__)

_WORDS = re.compile(r"[A-Z]+")


def keyword(text: str) -> Keyword | None:
    """Find a word of ours anywhere in a message, in any case, with or without accents.

    So ask the French operators' rules for short numbers (charte SMS+): what counts is that the
    message contains the word. « STOP SMS », « Stop36180 » and « merci de me mettre "stop" » end
    campaigns; STOP counts before the others. A longer word is another one: « stopper ».
    """
    letters = unicodedata.normalize("NFKD", text)
    plain = "".join(one for one in letters if not unicodedata.combining(one))
    said = set(_WORDS.findall(plain.upper()))
    return next((one for one in Keyword if one.upper() in said), None)


class Inbox:
    """Reads what people write to these numbers, and keeps the words; nothing else is answered.

    Machines that answer one another would never end.
    """

    def __init__(self, store: Store, pool: Executor, numbers: Collection[str]) -> None:
        self._store = store
        self._pool = pool
        self._numbers = numbers

    async def take(self, received: Received) -> None:
        """Read a message and keep its word; StoreDownError."""
        word = self.read(received)
        if word is not None:
            await self.keep(word)

    def read(self, received: Received) -> Word | None:
        """Count a message, and give the word in it if it is to be kept."""
        found = keyword(received.text)
        metrics.inbound(received.provider, found)
        if found is None:
            return None
        called, mobile = self._called(received.called), _mobile(received.sender)
        if called is None:
            log.warning("inbound_number_unknown", keyword=found)
        if called is None or mobile is None:
            return None
        contact = Contact(Route.SMS, mobile)
        return Word(received.provider, received.provider_id, contact, called, found)

    async def keep(self, word: Word) -> None:
        """Do what a word asks for; StoreDownError."""
        loop = asyncio.get_running_loop()
        answered = await loop.run_in_executor(self._pool, inbound.take, self._store, word)
        log.info("inbound_kept", keyword=word.keyword, answered=answered)

    def _called(self, called: str) -> str | None:
        """Give a number as the file of texts has it; None if it is not there."""
        written = (called, e164(called) or "")
        return next((one for one in map(_bare, written) if one in self._numbers), None)


def _bare(number: str) -> str:
    return number.removeprefix("+")


def _mobile(sender: str) -> str | None:
    """Give who sent a message as +…; None if it is nobody whom we write to (D08)."""
    number = e164(sender if sender.startswith(("+", "0")) else f"+{sender}")
    return number if number is not None and takes_sms(number) else None
