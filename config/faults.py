"""What is wrong with the settings, said all at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class SettingsFault:
    """One thing wrong: the name, its value fit to be shown (None: not given or not told), and what would be right."""

    name: str
    value: str | None
    message: str

    def __str__(self) -> str:
        return f"{self.name} {self.message}" + ("" if self.value is None else f"; it is {self.value!r}")


class SettingsError(Exception):
    """The settings are wrong; ``faults`` has every fault. Nothing was started."""

    code: ClassVar[str] = "bad_settings"
    exit_status: ClassVar[int] = 2

    def __init__(self, faults: Iterable[SettingsFault]) -> None:
        self.faults = tuple(faults)
        count = "A setting is" if len(self.faults) == 1 else f"{len(self.faults)} settings are"
        super().__init__("\n  ".join([f"{count} wrong:", *map(str, self.faults)]))
