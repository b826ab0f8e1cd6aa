"""What was typed: the arguments, whether JSON is wanted, and what is wrong with them in the words of refill."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import typer

from jobs.errors import Malformed, UsageError

_NEGATIVE = re.compile(r"-[0-9.]")


@dataclass(frozen=True, slots=True)
class Invocation:
    """What every command is told beside its own arguments."""

    as_json: bool = False

    @classmethod
    def read(cls, arguments: Sequence[str]) -> tuple[Self, list[str]]:
        """``--json`` may stand anywhere before ``--``; the rest of the arguments as they were."""
        end = arguments.index("--") if "--" in arguments else len(arguments)
        rest = [argument for argument in arguments[:end] if argument != "--json"]
        return cls(as_json=len(rest) < end), [*rest, *arguments[end:]]


def checked(arguments: Sequence[str]) -> None:
    """Raises ``Malformed`` where an argument is no text: a byte that is not UTF-8 arrives as a lone surrogate."""
    for position, argument in enumerate(arguments, start=1):
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise Malformed(f"argument {position} is not UTF-8: {argument.encode(errors='surrogateescape')!r}")


def refusal(error: BaseException, arguments: Sequence[str]) -> BaseException:
    """The same error, or ours where the command line could not be read."""
    if not isinstance(error, typer.TyperException):
        return error
    negative = next((argument for argument in arguments if _NEGATIVE.match(argument)), None)
    if negative is not None:  # taken for an option, or for a value of the wrong kind
        return Malformed(f"{negative} is no amount: amounts are whole numbers of 1 or more")
    sentence = error.format_message().replace("Value error, ", "")  # pydantic's words, which Typer passes on
    context: typer.Context | None = getattr(error, "ctx", None)
    if context is not None:
        sentence = f"{sentence.rstrip('.')}; see `{context.command_path} --help`"
    return Malformed(sentence) if isinstance(error, typer.BadParameter) else UsageError(sentence)
