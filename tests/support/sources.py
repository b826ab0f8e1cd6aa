"""The project's own source, parsed, for the tests that hold it to its rules."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOUSES = ("config", "jobs", "worker")


@dataclass(frozen=True)
class Source:
    """One Python file; ``path`` is relative to the project."""

    path: Path
    text: str

    @property
    def house(self) -> str:
        return self.path.parts[0]

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))

    def at(self, node: ast.AST) -> str:
        """Where a node stands, as a person jumps to it."""
        return f"{self.path}:{getattr(node, 'lineno', 1)}"


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    """Every Python file of these folders."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return tuple(Source(path.relative_to(ROOT), path.read_text(encoding="utf-8")) for path in paths)


def imported(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Every module that is imported anywhere in a file, by its full name."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node, name.name) for name in names)
            case ast.ImportFrom(module=str() as module, level=0, names=names):
                yield node, module
                yield from ((node, f"{module}.{name.name}") for name in names)


def kept_files() -> list[Path]:
    """Every file that the project keeps: tracked, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]
