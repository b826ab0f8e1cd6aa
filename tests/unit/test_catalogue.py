"""The catalogue of log events and the code agree, in both directions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.sources import HOUSES, Source, sources
from tests.unit.test_houses import source
from worker.catalogue import EVENTS, LogEvent

LEVELS = {"debug", "info", "warning", "error", "critical"}
METHODS = {level: level for level in LEVELS} | {"exception": "error", "log": "any"}
NOT_FIELDS = {"exc_info", "stack_info"}


@dataclass(frozen=True)
class Emission:
    """One call that logs: where, at which level, under which names (none where they are not literal), which fields.

    ``open`` is a call with ``**``: the fields that its entry lists beside the literal ones are those of the mapping.
    """

    at: str
    level: str
    names: tuple[str, ...]
    fields: frozenset[str]
    open: bool


def emissions(one: Source) -> Iterator[Emission]:
    for node in ast.walk(one.tree):
        match node:
            case ast.Call(func=ast.Attribute(value=logger, attr=method)) if method in METHODS and _is_logger(logger):
                place = 1 if method == "log" else 0
                names = _literals(node.args[place]) if len(node.args) == place + 1 else ()
                fields = frozenset(_fields(node))
                yield Emission(one.at(node), METHODS[method], names, fields - {"**"}, "**" in fields)


def aliases(one: Source) -> Iterator[str]:
    """Methods of a logger that are taken without being called: what they log later cannot be seen."""
    called = {node.func for node in ast.walk(one.tree) if isinstance(node, ast.Call)}
    for node in ast.walk(one.tree):
        if isinstance(node, ast.Attribute) and node.attr in METHODS and _is_logger(node.value) and node not in called:
            yield f"{one.at(node)} takes {ast.unparse(node)} without calling it"


def faults(found: list[Emission], events: dict[str, LogEvent]) -> Iterator[str]:
    for emission in found:
        if not emission.names:
            yield f"{emission.at} logs an event whose name is not literal"
        for name in emission.names:
            yield from (f"{emission.at} {fault}" for fault in _faults_of(emission, name, events.get(name)))


def _faults_of(emission: Emission, name: str, event: LogEvent | None) -> Iterator[str]:
    if event is None:
        yield f"logs {name}, which is not in the catalogue"
        return
    if emission.level != event.level:
        yield f"logs {name} as {emission.level}; the catalogue says {event.level}"
    for field in sorted(emission.fields - set(event.fields)):
        yield f"logs {name} with {field}, which the catalogue does not list"
    if emission.open and not set(event.fields) - emission.fields:
        yield f"logs {name} with **, for which the catalogue lists no fields"


def never_logged(found: list[Emission], events: dict[str, LogEvent]) -> Iterator[str]:
    given: dict[str, set[str]] = {}
    for emission in found:
        for name in emission.names:
            listed = events[name].fields if emission.open and name in events else ()
            given.setdefault(name, set()).update(emission.fields, listed)
    for name, event in events.items():
        if name not in given:
            yield f"{name} is in the catalogue and never logged"
        yield from (f"{name} never has {field}" for field in event.fields if name in given and field not in given[name])


def _is_logger(node: ast.expr) -> bool:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_") in {"log", "logger"} or name.endswith(("_log", "_logger"))
        case ast.Call(func=ast.Attribute(value=inner, attr="bind" | "new" | "unbind")):
            return _is_logger(inner)
        case ast.Call(func=ast.Attribute(attr="get_logger") | ast.Name(id="get_logger")):
            return True
    return False


def _literals(node: ast.expr) -> tuple[str, ...]:
    match node:
        case ast.Constant(value=str() as name):
            return (name,)
        case ast.IfExp(body=body, orelse=orelse):
            return _literals(body) + _literals(orelse) if _literals(body) and _literals(orelse) else ()
    return ()


def _fields(call: ast.Call) -> Iterator[str]:
    yield from (
        "**" if keyword.arg is None else keyword.arg for keyword in call.keywords if keyword.arg not in NOT_FIELDS
    )
    match call.func:
        case ast.Attribute(value=ast.Call() as bound):
            yield from _fields(bound)


def test_every_event_that_is_logged_is_in_the_catalogue_as_it_is_logged() -> None:
    found = [emission for one in sources(*HOUSES) for emission in emissions(one)]
    assert list(faults(found, dict(EVENTS))) == []


def test_every_event_of_the_catalogue_is_logged_somewhere_with_all_its_fields() -> None:
    found = [emission for one in sources(*HOUSES) for emission in emissions(one)]
    assert list(never_logged(found, dict(EVENTS))) == []


def test_no_logger_is_called_behind_the_catalogues_back() -> None:
    assert [fault for one in sources(*HOUSES) for fault in aliases(one)] == []


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_an_event_has_a_dotted_name_and_a_sentence(name: str) -> None:
    assert re.fullmatch(r"[a-z_]+\.[a-z_]+", name)
    assert re.fullmatch(r"[A-Z].*\.", EVENTS[name].meaning)


EXAMPLE = {"job.finished": LogEvent("info", "A job came to its end.", ("job", "count"))}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("log.info('job.ended')", "not in the catalogue"),
        ("log.warning('job.finished')", "as warning"),
        ("log.exception('job.finished')", "as error"),
        ("log.log(level, 'job.finished')", "as any"),
        ("self._log.info('job.finished', jobs=1)", "with jobs"),
        ("logger.bind(who=1).info('job.finished')", "with who"),
        ("structlog.get_logger().info('job.finished', job='x', count=1, **more)", r"with \*\*"),
        ("log.info(name)", "not literal"),
        ("log.info(f'job.{name}')", "not literal"),
        ("log.info('job.%s', name)", "not literal"),
        ("log.info('job.finished' if good else 'job.ended')", "logs job.ended"),
    ],
)
def test_what_differs_from_the_catalogue_would_be_found(text: str, fault: str) -> None:
    (told,) = faults(list(emissions(source(text))), EXAMPLE)
    assert re.search(fault, told)


def test_what_agrees_with_the_catalogue_is_no_fault() -> None:
    found = list(emissions(source("log.bind(job='x').info('job.finished', count=1, exc_info=True)\nmath.log(2)")))
    assert len(found) == 1
    assert not list(faults(found, EXAMPLE))
    assert not list(never_logged(found, EXAMPLE))


def test_a_mapping_gives_the_fields_that_the_catalogue_lists_beside_the_literal_ones() -> None:
    found = list(emissions(source("log.info('job.finished', job='x', **counts)")))
    assert not list(faults(found, EXAMPLE))
    assert not list(never_logged(found, EXAMPLE))


def test_what_is_never_logged_would_be_found() -> None:
    assert list(never_logged([], EXAMPLE)) == ["job.finished is in the catalogue and never logged"]
    found = list(emissions(source("log.info('job.finished', job='x')")))
    assert list(never_logged(found, EXAMPLE)) == ["job.finished never has count"]


def test_a_logger_behind_the_catalogues_back_would_be_found() -> None:
    assert list(aliases(source("say = log.error if bad else log.warning\nsay('job.finished')")))
    assert not list(aliases(source("log.error('job.finished')\nlog = structlog.get_logger()")))
