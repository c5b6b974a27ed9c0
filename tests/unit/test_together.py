"""What comes at once is done at once."""

import asyncio
from collections.abc import Sequence

import pytest

from shared.together import Together


class Answering:
    """Gives tenfold, once it may; keeps its rounds."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self.may = asyncio.Event()

    async def answer(self, questions: Sequence[int]) -> list[int]:
        self.rounds.append(list(questions))
        await self.may.wait()
        if 13 in questions:
            raise ValueError("unlucky")
        return [10 * one for one in questions]


async def asked(together: Together[int, int], numbers: Sequence[int]) -> list[asyncio.Task[int]]:
    """Ask for each, and wait until all stand in line."""
    tasks = [asyncio.create_task(together.ask(number)) for number in numbers]
    await asyncio.sleep(0)
    return tasks


async def test_what_comes_meanwhile_is_the_next_round() -> None:
    answering = Answering()
    together = Together(answering.answer, 3)
    first = await asked(together, [1])
    await asyncio.sleep(0)
    later = await asked(together, [2, 3, 4, 5])
    answering.may.set()
    assert await asyncio.gather(*first, *later) == [10, 20, 30, 40, 50]
    assert answering.rounds == [[1], [2, 3, 4], [5]]
    assert await together.ask(6) == 60  # after a rest


async def test_who_goes_away_takes_nobody_along() -> None:
    answering = Answering()
    together = Together(answering.answer, 3)
    gone, stays = await asked(together, [1, 2])
    await asyncio.sleep(0)
    gone.cancel()
    answering.may.set()
    assert await stays == 20
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_a_round_that_fails_is_no_end() -> None:
    answering = Answering()
    answering.may.set()
    together = Together(answering.answer, 3)
    unlucky = await asked(together, [13, 1])
    later = await asked(together, [2, 3])
    outcomes = await asyncio.gather(*unlucky, *later, return_exceptions=True)
    assert [str(one) for one in outcomes] == ["unlucky", "unlucky", "20", "30"]
