"""The layers of design.md, read from the code itself."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from shared import sessions

ROOT = Path(sessions.__file__).parents[1]
PACKAGES = ("ivr", "shared", "sms", "svi")

# What each package may import of the others; `svi` alone knows them all.
LAYERS = {"shared": {"shared"}, "ivr": {"ivr", "shared"}, "sms": {"sms", "shared"}}


@cache
def _trees(package: str) -> list[tuple[str, ast.Module]]:
    """Give the path and the code of every file of a package."""
    return [
        (str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted((ROOT / package).rglob("*.py"))
    ]


def _imports(tree: ast.Module) -> Iterator[str]:
    """Give the full name of every module or value imported, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _calls(tree: ast.Module) -> Iterator[str]:
    """Give the last name of everything called: `f` for `f()` and for `x.f()`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    yield name


def _attributes_called(tree: ast.Module) -> Iterator[str]:
    """Give the last two names of everything called: `y.f` for `x.y.f()`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Attribute(value=ast.Attribute(attr=owner), attr=name):
                    yield f"{owner}.{name}"


def _callers(name: str) -> set[str]:
    return {
        place for package in PACKAGES for place, tree in _trees(package) if name in _calls(tree)
    }


@pytest.mark.parametrize("package", LAYERS)
def test_a_package_stands_on_those_below_it_only(package: str) -> None:
    ours = {*PACKAGES, "tests"}
    wrong = [
        f"{place}: {name}"
        for place, tree in _trees(package)
        for name in _imports(tree)
        if name.split(".")[0] in ours - LAYERS[package]
    ]
    assert wrong == []


def test_only_a_verified_login_opens_a_session() -> None:
    """By a password of the dossier, a person's on the web, or a verification code."""
    assert _callers("open_session") == {
        "shared/continuations.py",
        "shared/credentials.py",
        "shared/web_accounts.py",
    }
    assert _callers("open_sessions") == {"shared/one_time.py", "shared/web_accounts.py"}


def test_nobody_else_makes_a_session() -> None:
    """`Session` is called in its own module; elsewhere it is a type, SQLAlchemy's has an alias."""
    assert _callers("Session") == {"shared/sessions.py"}
    aliases = {
        f"{place}: {name}"
        for package in PACKAGES
        for place, tree in _trees(package)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "shared.sessions"
        for alias in node.names
        for name in [alias.asname]
        if name is not None
    }
    assert aliases == set()


def test_a_session_is_neither_copied_nor_altered() -> None:
    """`replace` could make one from another; the files that use it hold no session."""
    for package in PACKAGES:
        for place, tree in _trees(package):
            if "replace" in set(_imports_of(tree, "dataclasses")):
                assert "shared.sessions.Session" not in set(_imports(tree)), place


def test_only_verify_compares_secrets() -> None:
    assert _callers("hash_secret") == {"shared/hashing.py"}
    assert [
        place for place, tree in _trees("shared") if "hasher.match" in _attributes_called(tree)
    ] == ["shared/credentials.py"]


def test_in_the_store_only_what_hashes_or_checks_a_secret_reads_it() -> None:
    assert _callers("reveal") & set(_places("shared")) == {
        "shared/accounts.py",
        "shared/client.py",
        "shared/codes.py",
        "shared/hashing.py",
        "shared/passwords.py",
        "shared/resets.py",
        "shared/web_passwords.py",
    }


def test_no_step_of_a_call_reads_a_secret() -> None:
    assert [place for place in _callers("reveal") if place.startswith("ivr/handlers/")] == []


def test_a_handler_gives_the_store_to_the_pool_only() -> None:
    """All calls share a thread, so none may wait for the database (docs/decisions/0004)."""
    uses = [
        node
        for place, tree in _trees("ivr")
        if place.startswith("ivr/handlers/")
        for node in _outside_work(tree)
    ]
    assert [ast.unparse(node) for node in uses if _takes_store(node)] == []


def _outside_work(node: ast.AST) -> Iterator[ast.AST]:
    """Give every node but those of what is passed to `Dialogue.work`."""
    yield node
    match node:
        case ast.Call(func=ast.Attribute(attr="work")):
            return
    for child in ast.iter_child_nodes(node):
        yield from _outside_work(child)


def _takes_store(node: ast.AST) -> bool:
    """Say whether a call is given `….store`; `.rules` and the like of it wait for nothing."""
    return isinstance(node, ast.Call) and any(
        isinstance(argument, ast.Attribute) and argument.attr == "store" for argument in node.args
    )


def test_dossiers_are_read_by_few_modules() -> None:
    users = {
        place
        for package in PACKAGES
        for place, tree in _trees(package)
        if "shared.models.DossierSection" in set(_imports(tree)) and package != "svi"
    }
    assert users == {
        "shared/disclosure.py",
        "shared/dossier_store.py",
        "shared/retention.py",  # deletes
        "shared/rotation.py",  # seals anew
    }


def test_only_a_session_s_dossier_is_asked_of_a_source() -> None:
    """R39: nothing else knows whose section to read."""
    assert _callers("Stored") == {"shared/dossier.py"}
    assert _callers("Dossier") & set(_places("shared")) == {"shared/dossier.py"}


def test_only_an_admin_s_command_reads_a_dossier_by_its_number() -> None:
    """R39: an access request is the one reading that has no session (D16)."""
    users = {
        place
        for package in PACKAGES
        for place, tree in _trees(package)
        if "shared.disclosure" in set(_imports(tree))
    }
    assert users == {"svi/accounts.py"}


def test_asyncio_is_of_the_edges_only() -> None:
    users = {
        place
        for package in PACKAGES
        for place, tree in _trees(package)
        if any(name.split(".")[0] == "asyncio" for name in _imports(tree))
    }
    assert {place for place in users if not place.startswith(("sms/", "svi/"))} == {
        "shared/api/http.py",
        "shared/listener.py",
        "shared/together.py",
    }


def test_the_telephone_of_the_page_is_of_the_demonstration_alone() -> None:
    """It may call without an operator: neither `svi voice` nor a container has it."""
    assert _callers("Telephone") == {"svi/up.py"}
    assert _callers("Addition") == {"svi/telephone/server.py"}


def test_one_module_mends_smpplib() -> None:
    users = {place for place, tree in _trees("sms") if any(_imports_of(tree, "smpplib"))}
    assert users == {"sms/smpp.py"}


def test_only_the_api_finds_a_session_by_its_token() -> None:
    assert _callers("resume") == {"shared/api/routes.py"}


def test_the_clock_is_passed_in() -> None:
    """Design idea 9: nothing in the store asks the machine for the time."""
    asking = _callers("now") | _callers("today") | _callers("utcnow")
    assert asking & set(_places("shared")) <= {"shared/clock.py"}


def _places(package: str) -> list[str]:
    return [place for place, _ in _trees(package)]


def _imports_of(tree: ast.Module, module: str) -> Iterator[str]:
    for name in _imports(tree):
        package, _, value = name.rpartition(".")
        if package == module:
            yield value
