"""A secret shows nowhere (design idea 8)."""

import copy
import io
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from dataclasses import asdict

import pytest
import structlog

from shared.credentials import Login
from shared.hashing import HashRefusedError
from shared.origin import Origin
from shared.rules import Channel
from shared.secret import Secret
from tests.store import CAISSE, NUMBER, PASSWORD, CountingHasher


def _logged(secret: Secret) -> str:
    stream = io.StringIO()
    logger = logging.Logger("test")
    logger.addHandler(logging.StreamHandler(stream))
    logger.error("tried %s and %r", secret, {"secret": secret})
    return stream.getvalue()


def _logged_by_structlog(secret: Secret) -> str:
    return str(structlog.processors.JSONRenderer()(None, "info", {"secret": secret}))


def _trace_with_locals(secret: Secret) -> str:
    shown = secret
    try:
        raise ValueError(shown)
    except ValueError as error:
        trace = traceback.TracebackException.from_exception(error, capture_locals=True)
    text = "".join(trace.format())
    assert "shown = ***" in text
    return text


WAYS_TO_SHOW: dict[str, Callable[[Secret], str]] = {
    "repr": repr,
    "str": str,
    "format": format,
    "f-string": lambda secret: f"{secret} {secret!r} {secret!s:>12}",
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - what is tested
    "str.format": lambda secret: "{} {!r}".format(secret, secret),  # noqa: UP032 - what is tested
    "in a list": lambda secret: str([secret]),
    "exception": lambda secret: repr(ValueError(secret)),
    "logging": _logged,
    "structlog": _logged_by_structlog,
    "json, anything as text": lambda secret: json.dumps({"secret": secret}, default=str),
    "traceback with local values": _trace_with_locals,
}


@pytest.mark.parametrize("show", WAYS_TO_SHOW.values(), ids=WAYS_TO_SHOW)
def test_it_shows_as_stars(show: Callable[[Secret], str]) -> None:
    text = show(Secret(PASSWORD))
    assert PASSWORD not in text
    assert "***" in text


WAYS_TO_COPY: dict[str, Callable[[Secret], object]] = {
    "pickle": pickle.dumps,
    "pickle, old protocol": lambda secret: pickle.dumps(secret, protocol=0),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "json": json.dumps,
    "format with a width": lambda secret: f"{secret:>12}",
    "asdict": lambda secret: asdict(Login(CAISSE, NUMBER, secret)),
    "vars": vars,
}


@pytest.mark.parametrize("leak", WAYS_TO_COPY.values(), ids=WAYS_TO_COPY)
def test_it_is_neither_copied_nor_written(leak: Callable[[Secret], object]) -> None:
    with pytest.raises(TypeError) as raised:
        leak(Secret(PASSWORD))
    assert PASSWORD not in str(raised.value)


def test_only_reveal_gives_it() -> None:
    assert Secret(PASSWORD).reveal() == PASSWORD
    assert len(Secret(PASSWORD)) == len(PASSWORD)


def test_two_secrets_are_not_compared_as_text() -> None:
    # Hashes are compared, in constant time; secrets never are.
    assert Secret(PASSWORD) != Secret(PASSWORD)


def test_a_login_and_an_origin_show_neither_number_nor_caller() -> None:
    text = repr((Login(CAISSE, NUMBER, Secret(PASSWORD)), Origin(Channel.VOICE, "+33612345678")))
    assert NUMBER not in text
    assert PASSWORD not in text
    assert "612345678" not in text


def test_a_refused_hash_shows_nothing_in_its_trace() -> None:
    secret = Secret(PASSWORD)
    stored = "$argon2id$v=19$m=8,t=1,p=1$////$////"
    with pytest.raises(HashRefusedError) as raised:
        CountingHasher().match([stored], secret)
    trace = traceback.TracebackException.from_exception(raised.value, capture_locals=True)
    assert PASSWORD not in "".join(trace.format())
