"""The store of the tests, on both databases (design.md, Tests)."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from shared.database import Database
from shared.keyring import KeyRing
from shared.models import Base, Epoch
from shared.rules import Rules
from shared.store import Store
from tests.engines import SharedEngines
from tests.postgresql import PostgresqlServer
from tests.processes import Place
from tests.store import CountingHasher, FakeClock, add_account, cheap_rules

EMPTY = "; ".join(
    "DELETE FROM epoch WHERE scope <> 'service'; UPDATE epoch SET value = 0"
    if table is Epoch.__table__
    else str(table.delete())
    for table in reversed(Base.metadata.sorted_tables)
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make soak` run the long form of some tests."""
    parser.addoption("--soak", action="store_true", help="run the long form of some tests")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave to `make soak` what takes many minutes: images of containers, timings."""
    only_soak = collection_path.name in {"test_compose.py", "test_timings.py"}
    skipped = only_soak and not config.getoption("--soak")
    return True if skipped else None  # None: as the others say


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """End with each test what a command that it ran here has set up for its logs."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def clock() -> FakeClock:
    """The store's clock."""
    return FakeClock()


@pytest.fixture(scope="session")
def rules() -> Rules:
    """The rules as they ship, with Argon2 at the lowest cost."""
    return cheap_rules()


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    """A new key ring, kept in `keys.json` of the test's folder."""
    return KeyRing.create(tmp_path / "keys.json")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """The PostgreSQL server of this run."""
    server = PostgresqlServer()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def postgresql_name(postgresql: PostgresqlServer) -> str:
    """A migrated database: to empty it takes a thirtieth of the time to copy one."""
    name = postgresql.create()
    _migrate(postgresql.url(name))
    return name


@pytest.fixture(scope="session")
def engines() -> Iterator[SharedEngines]:
    """The engines on which every test's `store` stands."""
    with closing(SharedEngines()) as engines:
        yield engines


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database file."""
    path = tmp_path_factory.mktemp("sqlite") / "store.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without any table, of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    name = server.create()
    yield server.url(name)
    server.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated database without any row, of each kind."""
    if request.param == "sqlite":
        path = tmp_path / "store.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    name: str = request.getfixturevalue("postgresql_name")
    yield server.url(name)
    server.execute(EMPTY, name)


@pytest.fixture
def hasher() -> CountingHasher:
    """The store's hasher."""
    return CountingHasher()


@pytest.fixture
def store(
    *,
    url: str,
    engines: SharedEngines,
    keys: KeyRing,
    rules: Rules,
    hasher: CountingHasher,
    clock: FakeClock,
) -> Iterator[Store]:
    """An empty store, on each database."""
    with engines.database(url) as database:
        yield Store(database, keys, rules, hasher, clock)


@pytest.fixture
def place(url: str, tmp_path: Path) -> Place:
    """Where other processes find an empty store."""
    keys = tmp_path / "keys.json"
    KeyRing.create(keys)
    return Place(url, keys)


@pytest.fixture
def shop(place: Place) -> Iterator[Store]:
    """The store of this process at that place, with one dossier."""
    with closing(place.open()) as store:
        add_account(store)
        yield store


def _migrate(url: str) -> None:
    database = Database(url)
    database.migrate()
    database.close()
