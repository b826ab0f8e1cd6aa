"""The rules of the project's own source: who may import whom, how long things may be, and what is never written."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sources import HOUSES, ROOT, Source, imported, kept_files, sources

RUNNERS = {"dramatiq", "apscheduler", "redis", "typer", "rich", "click", "honcho"}
FORBIDDEN = {"config": {"jobs", "worker", *RUNNERS}, "jobs": {"worker", *RUNNERS}, "worker": {"tests"}}

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

# In pieces, so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(
    r"(?<![\w.~$}-])/(?:" + "|".join(["wo" + "rk", "ho" + "me", "ro" + "ot", "Us" + "ers"]) + r")/\w"
)
PACKAGE_HOST = re.compile("|".join([r"py" + r"pi\.org", r"python" + r"hosted\.org", "(?<!emit-)index" + "[-_]url"]))


def source(text: str, path: str = "jobs/example.py") -> Source:
    return Source(Path(path), text)


def wrong_imports(one: Source) -> Iterator[str]:
    for node, name in imported(one.tree):
        if name.split(".")[0] in FORBIDDEN[one.house]:
            yield f"{one.at(node)} imports {name}"


def swallowed(one: Source) -> Iterator[str]:
    for node in ast.walk(one.tree):
        if isinstance(node, ast.ExceptHandler) and all(_does_nothing(step) for step in node.body):
            yield f"{one.at(node)} swallows an exception"
        if _calls(node, "suppress", of="contextlib") and _catches_all(node):
            yield f"{one.at(node)} suppresses every exception"


def _does_nothing(step: ast.stmt) -> bool:
    return isinstance(step, ast.Pass | ast.Continue) or (
        isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant)
    )


def _catches_all(node: ast.AST) -> bool:
    names = {argument.id for argument in getattr(node, "args", []) if isinstance(argument, ast.Name)}
    return bool(names & {"Exception", "BaseException"})


def _calls(node: ast.AST, name: str, *, of: str) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=attribute)):
            return (module, attribute) == (of, name)
        case ast.Call(func=ast.Name(id=called)):
            return called == name
    return False


def mocks(one: Source) -> Iterator[str]:
    for node, name in imported(one.tree):
        if name.split(".")[0] in {"mock", "pytest_mock"} or name.startswith("unittest.mock"):
            yield f"{one.at(node)} imports {name}"
    ours = {alias for node in ast.walk(one.tree) for alias in _names_of_ours(node)}
    for node in ast.walk(one.tree):
        if _replaces_ours(node, ours):
            yield f"{one.at(node)} replaces code of ours"


def _names_of_ours(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in HOUSES:
        yield from (name.asname or name.name for name in node.names)
    if isinstance(node, ast.Import):
        names = (name.asname or name.name.split(".")[0] for name in node.names if name.name.split(".")[0] in HOUSES)
        yield from names


def _replaces_ours(node: ast.AST, ours: set[str]) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr="setattr"), args=[ast.Constant(value=str() as target), *_]):
            return target.split(".")[0] in HOUSES
        case ast.Call(func=ast.Attribute(value=ast.Name(id="monkeypatch"), attr="setattr"), args=[target, *_]):
            names = {inner.id for inner in ast.walk(target) if isinstance(inner, ast.Name)}
            return bool(names & ours)
    return False


def naps(one: Source) -> Iterator[str]:
    for node in ast.walk(one.tree):
        if _calls(node, "sleep", of="time"):
            yield f"{one.at(node)} sleeps; wait for the fact with `eventually`"


def long_functions(one: Source) -> Iterator[str]:
    for node in ast.walk(one.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{one.at(node)} {node.name} has {length} lines"


def found_in_kept_files(pattern: re.Pattern[str]) -> Iterator[str]:
    for path in kept_files():
        for number, line in enumerate(path.read_bytes().decode("utf-8", "ignore").splitlines(), 1):
            if pattern.search(line):
                yield f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"


def test_a_house_imports_only_what_it_may() -> None:
    assert [fault for one in sources(*HOUSES) for fault in wrong_imports(one)] == []


def test_no_module_is_longer_than_one_noun() -> None:
    counted = {str(one.path): len(one.text.splitlines()) for one in sources(*HOUSES)}
    assert {path: lines for path, lines in counted.items() if lines > MODULE_LINES_MAX} == {}


def test_no_function_is_longer_than_can_be_defended() -> None:
    assert [fault for one in sources(*HOUSES, "tests") for fault in long_functions(one)] == []


def test_no_exception_is_swallowed() -> None:
    assert [fault for one in sources(*HOUSES, "tests") for fault in swallowed(one)] == []


def test_tests_use_no_mocks_of_our_code() -> None:
    assert [fault for one in sources("tests") for fault in mocks(one)] == []


def test_tests_do_not_sleep() -> None:
    allowed = {Path("tests/support")}  # where `eventually` waits between two looks
    assert [fault for one in sources("tests") if one.path.parent not in allowed for fault in naps(one)] == []


def test_nothing_that_is_kept_names_a_path_of_one_machine() -> None:
    assert list(found_in_kept_files(MACHINE_PATH)) == []


def test_nothing_that_is_kept_names_a_package_host() -> None:
    assert list(found_in_kept_files(PACKAGE_HOST)) == []


@pytest.mark.parametrize(
    "text",
    ["import redis", "from rich.table import Table", "import worker.logs", "def f():\n    import dramatiq",
     "from worker import logs"],
)  # fmt: skip
def test_a_wrong_import_would_be_found(text: str) -> None:
    assert list(wrong_imports(source(text)))


def test_a_right_import_is_none() -> None:
    assert not list(
        wrong_imports(source("import psycopg, structlog\nfrom config.settings import Settings\nimport redistricting"))
    )


@pytest.mark.parametrize(
    "text",
    [
        "try: f()\nexcept OSError: pass",
        "for x in y:\n  try: f()\n  except (OSError, ValueError): continue",
        "try: f()\nexcept OSError: ...",
        "try: f()\nexcept OSError:\n  'a reason'",
        "import contextlib\nwith contextlib.suppress(Exception): f()",
        "with suppress(OSError, BaseException): f()",
    ],
)
def test_a_swallowed_exception_would_be_found(text: str) -> None:
    assert list(swallowed(source(text)))


@pytest.mark.parametrize(
    "text",
    [
        "from unittest.mock import Mock",
        "import unittest.mock",
        "from unittest import mock",
        "import pytest_mock",
        "from jobs import charge\ndef test(monkeypatch): monkeypatch.setattr(charge, 'settle', f)",
        "def test(monkeypatch): monkeypatch.setattr('jobs.charge.settle', f)",
        "import worker.logs\ndef test(monkeypatch): monkeypatch.setattr(worker.logs, 'log', f)",
    ],
)
def test_a_mock_would_be_found(text: str) -> None:
    assert list(mocks(source(text)))


@pytest.mark.parametrize("text", ["import time\ntime.sleep(1)", "from time import sleep\nsleep(1)"])
def test_a_nap_would_be_found(text: str) -> None:
    assert list(naps(source(text)))


def test_a_long_function_would_be_found() -> None:
    body = "    x = 1\n"
    assert not list(long_functions(source("def f():\n" + body * (FUNCTION_LINES_MAX - 1))))
    assert list(long_functions(source("def f():\n" + body * FUNCTION_LINES_MAX)))


def test_a_path_of_one_machine_or_a_package_host_would_be_found() -> None:
    assert MACHINE_PATH.search("open('" + "/wo" + "rk/main')")
    assert MACHINE_PATH.search("DIR=" + "/ho" + "me/somebody")
    assert not MACHINE_PATH.search("tests/unit/wo" + "rk/x ../ho" + "me/y /var/lib")
    assert PACKAGE_HOST.search("https://py" + "pi.org/simple")
