"""Twilio's own package splits texts as we do, to the septet (D14)."""

import random

from sms import gsm7
from tests.peers.npm import npm_segments

TEXTS = 10_000
LETTERS = [*gsm7.SEPTETS]
OF_TWO = [letter for letter, septets in gsm7.SEPTETS.items() if len(septets) == 2]
BORDERS = (153, 160) * 6 + (306, 459)  # the calculator is slow on long texts


def generated(chance: random.Random) -> str:
    """Give a text: letters of all kinds, or mostly of one septet up to near a border."""
    if chance.random() < 0.3:
        return "".join(chance.choices(LETTERS, k=chance.randrange(200)))
    begun = "".join(chance.choices(LETTERS[:127], k=chance.choice(BORDERS) - chance.randrange(4)))
    return begun + "".join(chance.choices(OF_TWO + LETTERS[:10], k=chance.randrange(12)))


def test_segments_are_those_of_twilios_calculator() -> None:
    chance = random.Random(14)  # noqa: S311
    texts = [generated(chance) for _ in range(TEXTS)]
    ours = [[(segment, gsm7.encode(segment)) for segment in gsm7.segments(text)] for text in texts]
    theirs = npm_segments(texts)
    assert len(theirs) == TEXTS
    wrong = [text for text, one, other in zip(texts, ours, theirs, strict=True) if one != other]
    assert wrong == []
    assert {len(segments) for segments in ours} >= {1, 2, 3, 4}
