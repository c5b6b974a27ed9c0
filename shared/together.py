"""Has what comes at once done at once: while one round is under way, the next one gathers.

A transaction that keeps a dozen things costs little more than one that keeps a single one, of the
disk's time as of ours.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Together(Generic[Q, A]):
    """Asks for many what each of them asks; made and used in one event loop.

    `answer` gives an answer to each question of a round, in their order. What it raises is raised
    to all who were in that round.
    """

    def __init__(self, answer: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], most: int) -> None:
        self._answer = answer
        self._most = most  # in one round
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._rounds: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        """Give the answer of the next round."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[A] = loop.create_future()
        self._waiting.append((question, answered))
        if self._rounds is None:
            self._rounds = loop.create_task(self._go_on())
        return await answered

    async def _go_on(self) -> None:
        while self._waiting:
            round_, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            try:
                answers = await self._answer([question for question, _ in round_])
            except Exception as error:  # noqa: BLE001 - it is theirs who asked
                for _, answered in round_:
                    if not answered.done():
                        answered.set_exception(error)
            else:
                for (_, answered), answer in zip(round_, answers, strict=True):
                    if not answered.done():  # cancelled, and done all the same
                        answered.set_result(answer)
        self._rounds = None
