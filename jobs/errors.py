"""Every error that refill raises on purpose, as one tree.

An error carries a stable `code`: it is what the command line prints, what the views store and what the logs show, and
it never changes once released. `exit_status` follows the contract: 1 for a request that was refused, 2 for one that was
put wrongly.
"""

from __future__ import annotations

from typing import ClassVar


class RefillError(Exception):
    """Base of the tree. The docstring of a class is its message where no better one is given."""

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1

    def __init__(self, message: str | None = None, **details: object) -> None:
        super().__init__(message or (type(self).__doc__ or self.code).strip())
        self.details = details


class Refused(RefillError):
    """The request was understood and refused."""


class UsageError(RefillError):
    """The request was put wrongly."""

    code = "usage"
    exit_status = 2


class Malformed(UsageError):
    """A value is not of the form that the contract asks for."""

    code = "malformed"


class Conflict(Refused):
    """The same request id was used before with other content."""

    code = "conflict"


class InsufficientCredit(Refused):
    """The balance does not cover the amount."""

    code = "insufficient_credit"


class UnknownProgram(Refused):
    """No program has this name."""

    code = "unknown_program"


class UnknownOrganisation(Refused):
    """No organisation has this name."""

    code = "unknown_organisation"


class UnknownAccount(Refused):
    """No account has this name."""

    code = "unknown_account"


class AccountClosed(Refused):
    """The account is closed."""

    code = "account_closed"


class AlreadyExists(Refused):
    """The name is taken."""

    code = "already_exists"


class InvalidProgram(UsageError):
    """A program file does not say what a program must say."""

    code = "invalid_program"


class DatabaseUnavailable(RefillError):
    """The database does not answer."""

    code = "database_unavailable"


class DatabaseTooOld(RefillError):
    """The database server is older than PostgreSQL 15."""

    code = "database_too_old"
    exit_status = 2


class SchemaOutdated(RefillError):
    """The database schema is not the one that this release expects; run `refill migrate`."""

    code = "schema_outdated"
    exit_status = 2


class RedisUnavailable(RefillError):
    """Redis does not answer."""

    code = "redis_unavailable"


class BrokerUnavailable(RefillError):
    """The broker of pokes does not answer."""

    code = "broker_unavailable"


class PortInUse(RefillError):
    """The port is taken by another program."""

    code = "port_in_use"
    exit_status = 2
