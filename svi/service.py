"""What several commands begin with: the settings, the store, the call script."""

import ctypes
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import structlog
from pydantic import ValidationError
from sqlalchemy import make_url

from ivr.prompts import missing
from ivr.script import Script
from ivr.script_files import load_script, reason_in_french
from shared.audit_seal import seal_new
from shared.database import Database
from shared.errors import StoreDownError, StoreError
from shared.keyring import KeyRing
from shared.retention import tidy
from shared.rules import load_rules
from shared.store import Store
from svi.settings import Settings

TIDY_SECONDS = 3600
SEAL_SECONDS = 10

_M_MMAP_THRESHOLD = -3  # glibc's malloc.h
_LARGE_BLOCK = 1 << 20  # bytes: below a hash's 19 MiB (D13), far above anything else

log = structlog.get_logger(__name__)


def load_settings() -> Settings:
    """Read the environment; ClickException names the first variable that makes no sense."""
    try:
        return Settings()
    except ValidationError as error:
        fault = error.errors()[0]
        name = f"SVI_{fault['loc'][0]}".upper()
        raise click.ClickException(f"{name} : {reason_in_french(fault)}") from None


def raise_file_limit() -> None:
    """Allow as many open files as the machine does: a call takes one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def prepare_home(settings: Settings) -> None:
    """Make the folder, the key ring and the schema, where they are not there yet."""
    for folder in (settings.home, settings.logs, settings.prompts):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not settings.keys.exists():
        KeyRing.create(settings.keys)
    database = Database(settings.url)
    try:
        with _database_named(settings):
            database.migrate()
    finally:
        database.close()


@contextmanager
def open_store(settings: Settings) -> Iterator[Store]:
    """Open the store that exists."""
    _return_large_blocks()
    store = Store.open(settings.url, settings.keys, load_rules(settings.rules))
    try:
        with _database_named(settings):
            yield store
    finally:
        store.close()


def _return_large_blocks() -> None:
    """Have free(3) return a hash's memory at once: glibc would keep one or more in each arena."""
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


@contextmanager
def _database_named(settings: Settings) -> Iterator[None]:
    """Say which database is away, without its password."""
    try:
        yield
    except StoreDownError as error:
        url = make_url(settings.url).render_as_string(hide_password=True)
        raise StoreDownError(f"{url}: {error}") from None


@contextmanager
def housekeeping(store: Store) -> Iterator[None]:
    """Tidy the store and seal its audit now and then, as long as the block runs."""
    stop = threading.Event()

    def repeat(work: Callable[[Store], object], seconds: float) -> None:
        while not stop.wait(seconds):
            try:
                work(store)
            except StoreError as error:
                log.error("housekeeping_failed", work=work.__name__, why=str(error))

    threads = [
        threading.Thread(target=repeat, args=job, name=job[0].__name__, daemon=True)
        for job in ((tidy, TIDY_SECONDS), (seal_new, SEAL_SECONDS))
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def load_playable_script(settings: Settings) -> Script:
    """Load the call script; ClickException if a prompt's audio is missing."""
    script = load_script(settings.dialplans)
    absent = missing(script.catalogue, settings.prompts, script.silences_ms())
    if absent:
        raise click.ClickException(
            f"{settings.prompts} : il manque {len(absent)} message(s), dont {absent[0]} ;"
            " lancez : svi prompts build"
        )
    return script
