"""What several commands begin with: the settings, the store, the call script."""

import ctypes
import json
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import click
import structlog
from pydantic import ValidationError
from sqlalchemy import make_url

from ivr.ami import AmiLink
from ivr.codes import unspoken
from ivr.prompts import missing
from ivr.script import Script
from ivr.script_files import load_script
from shared import key_check
from shared.audit_seal import seal_new
from shared.clock import system_clock
from shared.database import Database
from shared.day_keys import DayKeys
from shared.errors import StoreDownError, StoreError
from shared.keyring import KeyRing
from shared.letters.status import warn_of_late
from shared.reasons import reason_in_french
from shared.retention import drop_day_keys, tidy
from shared.rotation import note_pseudonyms, warn_of_pseudonyms
from shared.rules import load_rules
from shared.schema import Schema
from shared.secret import Secret
from shared.store import Store
from svi.settings import Settings

TIDY_SECONDS = 3600
NEXT_SECONDS = 0.1  # between two batches: SQLite's waiting processes look as often for their turn
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
    """Make the folder, the keys and the schema of an empty database."""
    for folder in (settings.home, settings.logs, settings.prompts):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not settings.keys.exists():
        KeyRing.create(settings.keys)
    # A folder that can't be used is known now, and not at the first message.
    DayKeys(settings.day_keys).key(system_clock().date())
    with open_database(settings) as database:
        if database.schema().revision is None:  # others are upgraded by `svi db` alone
            database.migrate()


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """Open the database, whatever its schema is; ClickException if there is no SVI_HOME for it."""
    if not settings.database_url and not settings.home.exists():
        raise click.ClickException(f"{settings.home} n'existe pas : vérifiez SVI_HOME")
    with closing(Database(settings.url)) as database, _database_named(settings):
        yield database


@contextmanager
def open_store(settings: Settings) -> Iterator[Store]:
    """Open the store that exists; ClickException without keys, or with another program's schema.

    SettingsError if it has another key ring.
    """
    if not settings.keys.exists():
        raise _no_keys(settings)
    _return_large_blocks()
    with (
        closing(
            Store.open(
                settings.url,
                settings.keys,
                load_rules(settings.rules),
                DayKeys(settings.day_keys),
            )
        ) as store,
        _database_named(settings),
    ):
        check_schema(store.database.schema())
        key_check.check(store)
        yield store


def check_schema(schema: Schema) -> None:
    """Raise ClickException, with what to do, unless it is the schema that this program knows."""
    if schema.newer:
        raise click.ClickException(
            f"la base est au schéma {schema.revision}, plus récent que ce programme"
            f" ({schema.latest}) : mettez-le à jour"
        )
    if schema.missing:
        now = "vide" if schema.revision is None else f"au schéma {schema.revision}"
        raise click.ClickException(
            f"la base est {now}, ce programme attend le schéma {schema.latest} ;"
            " arrêtez les services, puis lancez : svi db upgrade"
        )


def _no_keys(settings: Settings) -> click.ClickException:
    """Say what to do without a key ring: a new one is of use only where nothing was sealed."""
    with open_database(settings) as database:
        empty = database.schema().revision is None
    remedy = "lancez : svi keys create" if empty else "restaurez celui de la sauvegarde"
    return click.ClickException(f"{settings.keys} : il n'y a pas de trousseau ; {remedy}")


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
    """Tidy the store, seal its audit and look for what is late, as long as the block runs."""
    stop = threading.Event()
    threads = [
        threading.Thread(
            target=_repeat, args=(work, store, seconds, stop), name=work.__name__, daemon=True
        )
        for work, seconds in (
            (seal_new, SEAL_SECONDS),
            (tidy, TIDY_SECONDS),
            (drop_day_keys, TIDY_SECONDS),
            (warn_of_late, TIDY_SECONDS),
            (note_pseudonyms, TIDY_SECONDS),
            (warn_of_pseudonyms, TIDY_SECONDS),
        )
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _repeat(
    work: Callable[[Store], object], store: Store, seconds: float, stop: threading.Event
) -> None:
    """Work now and then until told to stop, and go on soon after what returns True.

    A fault is told once, until it works again.
    """
    told = more = False
    while not stop.wait(NEXT_SECONDS if more else seconds):
        more = False
        try:
            more = work(store) is True
            told = False
        except StoreError as error:
            if not told:
                log.error("housekeeping_failed", work=work.__name__, why=str(error))
            told = True
        except Exception:  # a fault of ours: the next time it may work
            if not told:
                log.exception("housekeeping_failed", work=work.__name__)
            told = True


def load_playable_script(settings: Settings) -> Script:
    """Load the call script; ClickException if a prompt is missing, or its audio."""
    script = load_script(settings.dialplans)
    for finding in unspoken(load_rules(settings.rules).dossier.codes, script.catalogue):
        raise click.ClickException(f"{settings.rules}: {finding}")
    absent = missing(script.catalogue, settings.prompts, script.silences_ms())
    if absent:
        raise click.ClickException(
            f"{settings.prompts} : il manque {len(absent)} message(s), dont {absent[0]} ;"
            " lancez : svi prompts build"
        )
    return script


def ami_link(settings: Settings) -> AmiLink:
    """Give the link to the manager that SVI_AMI names; ClickException if it doesn't say where."""
    try:
        reach = json.loads(settings.ami.read_text(encoding="utf-8"))
        return AmiLink(reach["host"], reach["port"], reach["user"], Secret(reach["secret"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise click.ClickException(
            f"{settings.ami} : ne dit pas où joindre Asterisk ; svi up tourne-t-il ?"
        ) from None
