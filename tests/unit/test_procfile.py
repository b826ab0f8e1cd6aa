"""The Procfile: names, commands, and what needs a shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.procfile import BadProcfile, packaged_procfile, read_procfile


def _read(tmp_path: Path, content: str) -> dict[str, list[str]]:
    file = tmp_path / "Procfile"
    file.write_text(content)
    return read_procfile(file)


def test_the_projects_own_is_the_architecture() -> None:
    assert read_procfile(packaged_procfile()) == {
        "release": ["refill", "migrate"],
        "intake": ["refill", "intake"],
        "scheduler": ["refill", "scheduler"],
        "worker": ["refill", "worker"],
    }


def test_the_packaged_one_is_the_one_of_the_project() -> None:
    root = Path(__file__).resolve().parents[2]
    assert packaged_procfile().read_text() == (root / "Procfile").read_text()


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("refill worker --threads 4", ["refill", "worker", "--threads", "4"]),
        ("echo 'two words; one'", ["echo", "two words; one"]),
        ("refill worker --threads $N", ["/bin/sh", "-c", "refill worker --threads $N"]),
        ("N=4 refill worker", ["/bin/sh", "-c", "N=4 refill worker"]),
        ("refill intake | tee log", ["/bin/sh", "-c", "refill intake | tee log"]),
        ('echo "$HOME"', ["/bin/sh", "-c", 'echo "$HOME"']),
    ],
)
def test_a_shell_stands_before_a_process_only_where_its_line_needs_one(
    tmp_path: Path, line: str, arguments: list[str]
) -> None:
    assert _read(tmp_path, f"worker: {line}\n") == {"worker": arguments}


@pytest.mark.parametrize("content", ["", "# nothing\n", "a: true\na: false\n"])
def test_a_procfile_that_says_nothing_or_too_much_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(BadProcfile):
        _read(tmp_path, content)
