"""Structured logs, one JSON object a line, in which nobody's data stands.

An exception is logged as its type and the places it passed, never its text or local values: a
library's message may quote what was keyed or read.
"""

import logging
import sys
import traceback
from pathlib import Path

import structlog
from structlog.typing import EventDict, Processor


def configure(file: Path) -> None:
    """Send all log lines to `file`, the libraries' too, and warnings to the screen."""
    # In a JSON string the escape that replaces what UTF-8 can't hold is that very character.
    in_file = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
    on_screen = logging.StreamHandler(sys.stderr)
    on_screen.setLevel(logging.WARNING)
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _place_exception,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        foreign_pre_chain=common,
    )
    for handler in (in_file, on_screen):
        handler.setFormatter(formatter)
    # On a full disk lines wait in the file's buffer; a traceback for each would help nobody.
    logging.raiseExceptions = False
    logging.basicConfig(level=logging.INFO, handlers=[in_file, on_screen], force=True)
    structlog.configure(
        processors=[*common, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def silence() -> None:
    """Log nothing: for a command that says on the screen itself all there is to say."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _place_exception(_logger: object, _name: str, event: EventDict) -> EventDict:
    """Put an exception's type and path in place of itself."""
    error = _exception(event.pop("exc_info", None))
    if error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        event["exception"] = type(error).__name__
        event["places"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return event


def _exception(exc_info: object) -> BaseException | None:
    """Give the exception that is meant: itself, the triple that names it, or the one in hand."""
    match exc_info:
        case BaseException() | None:
            return exc_info
        case (_, BaseException() as error, _):
            return error
    return sys.exc_info()[1] if exc_info else None
