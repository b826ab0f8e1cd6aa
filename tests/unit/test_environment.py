"""``refill.env``: what a shell and the settings both read."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from config.settings import load_settings
from worker.environment import UnwritableValue, environment_file, remove_stale_file

_VALUES = {
    "DATABASE_URL": "postgresql://u:p%20w-_~@127.0.0.1:5432/refill?sslmode=disable&a=b",
    "REDIS_URL": "redis://:secret@127.0.0.1:6379/0",
    "STRIPE_API_KEY": "sk_test_x",
    "STRIPE_API_BASE": "http://127.0.0.1:1",
}


def _environment(tmp_path: Path) -> dict[str, str]:
    mail = tmp_path / "mail of #1 $HOME"
    return {**_VALUES, "MAIL_DIR": str(mail), "REFILL_DATA": str(tmp_path), "HOME": "/not/ours"}


def test_the_settings_read_what_was_written(tmp_path: Path) -> None:
    with environment_file(tmp_path, _environment(tmp_path)):
        settings = load_settings({"REFILL_DATA": str(tmp_path)})

    assert settings.database_url == _VALUES["DATABASE_URL"]
    assert settings.mail_dir == tmp_path / "mail of #1 $HOME"


def test_a_shell_reads_what_was_written(tmp_path: Path) -> None:
    with environment_file(tmp_path, _environment(tmp_path)) as path:
        script = f'set -a; . "{path}"; printf "%s\\n" "$DATABASE_URL" "$MAIL_DIR" "$HOME"'
        output = subprocess.run(["/bin/sh", "-c", script], env={"HOME": "/mine"}, capture_output=True, text=True).stdout

    assert output.splitlines() == [_VALUES["DATABASE_URL"], str(tmp_path / "mail of #1 $HOME"), "/mine"]


def test_it_is_for_its_owner_only_and_goes_away(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with environment_file(tmp_path, _environment(tmp_path)) as path:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    for name in ("refill.env", ".refill.env.half"):
        (tmp_path / name).write_text("DATABASE_URL=stale\n")
    remove_stale_file(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["it's", "two\nlines"])
def test_a_value_that_the_file_cannot_carry_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(UnwritableValue, match="MAIL_DIR"), environment_file(tmp_path, {"MAIL_DIR": value}):
        raise AssertionError("it was written")
    assert list(tmp_path.iterdir()) == []
