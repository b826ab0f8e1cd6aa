"""How a mail leaves: over SMTP, or as a file in a directory for whoever has no mail server.

Failures are of two kinds. `MailUnavailable`: the server could not take any mail now, so the same mail is sent again
later. `MailRefused`: the server will never take this mail to this recipient. A server that does not know us (a wrong
password, a sender that it does not accept) is of the first kind: it is a fault of the settings, and no mail is lost
by it.
"""

from __future__ import annotations

import contextlib
import os
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_exponential, wait_random

from jobs.errors import RefillError, UsageError

TRIES: Final = 3
TRIES_BOUND_S: Final = 60
TIMEOUT_S: Final = 20
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class MailUnavailable(RefillError):
    """The mail cannot be sent now."""

    code = "mail_unavailable"


class MailRefused(RefillError):
    """The mail server will never take this mail."""

    code = "mail_refused"


class PasswordInTheClear(UsageError):
    """The mail server offers no encryption, and its password would be sent in the clear; use smtps:// or STARTTLS."""

    code = "password_in_the_clear"


class Mailer(Protocol):
    """Sends one mail. Raises MailUnavailable and MailRefused."""

    def send(self, mail: EmailMessage) -> None: ...


@dataclass(frozen=True, slots=True)
class DirectoryMailer:
    """One file per mail, named by its Message-ID: whole at any moment, and written over by a second delivery."""

    directory: Path

    def send(self, mail: EmailMessage) -> None:
        """Writes ``<message id>.eml``. Raises MailUnavailable where the directory cannot be written."""
        name = str(mail["Message-ID"]).strip("<>").partition("@")[0]
        try:
            self._write(self.directory / f"{name}.eml", mail.as_bytes())
        except OSError as error:
            raise MailUnavailable(f"{self.directory} cannot be written: {error.strerror}") from error

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.draft")
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class SmtpMailer:
    """A mail server by its URL: ``smtps://`` is encrypted from the start, ``smtp://`` by STARTTLS where it is
    offered."""

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S, first_wait_s: float = 0.5) -> None:
        parts = urlsplit(url)
        self._is_encrypted = parts.scheme == "smtps"
        self._host = parts.hostname or "localhost"
        self._port = parts.port or (465 if self._is_encrypted else 25)
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")
        self._timeout_s = timeout_s
        self._retrying = Retrying(
            retry=retry_if_exception(_may_repeat),
            stop=stop_after_attempt(TRIES) | stop_after_delay(TRIES_BOUND_S),
            wait=wait_exponential(multiplier=first_wait_s, max=5.0) + wait_random(0, first_wait_s),
            reraise=True,
        )

    def send(self, mail: EmailMessage) -> None:
        """Sends it, in up to three tries. Raises MailUnavailable, MailRefused and PasswordInTheClear."""
        try:
            self._retrying.copy()(self._send_once, mail)
        except OSError as error:  # smtplib's own errors are among them
            raise _failure(error) from error

    def _send_once(self, mail: EmailMessage) -> None:
        with self._session() as server:
            server.send_message(mail)

    @contextmanager
    def _session(self) -> Iterator[smtplib.SMTP]:
        kind = smtplib.SMTP_SSL if self._is_encrypted else smtplib.SMTP
        server = kind(self._host, self._port, timeout=self._timeout_s)
        try:
            self._encrypt(server)
            if self._user:
                server.login(self._user, self._password)
            yield server
            # The mail is taken when its DATA is answered; how the server says goodbye changes nothing.
            with contextlib.suppress(smtplib.SMTPException, OSError):
                server.quit()
        finally:
            server.close()

    def _encrypt(self, server: smtplib.SMTP) -> None:
        server.ehlo_or_helo_if_needed()
        if self._is_encrypted:
            return
        if server.has_extn("starttls"):
            server.starttls(context=ssl.create_default_context())
            server.ehlo()
        elif self._user and self._host not in _LOOPBACK:
            raise PasswordInTheClear


def _may_repeat(error: BaseException) -> bool:
    """A lost or refused connection, and an answer of the 4xx kind."""
    code = _code_of(error)
    if code is not None:
        return 400 <= code < 500
    if isinstance(error, smtplib.SMTPException):
        return isinstance(error, smtplib.SMTPServerDisconnected)
    return isinstance(error, OSError) and not isinstance(error, ssl.SSLCertVerificationError)


def _failure(error: OSError) -> RefillError:
    """What the error means for the mail: only a final answer about its recipient or its content refuses it."""
    code, said = _code_of(error), _said(error)
    concerns_mail = isinstance(error, smtplib.SMTPRecipientsRefused | smtplib.SMTPDataError)
    if concerns_mail and code is not None and code >= 500:
        return MailRefused(f"The mail server refused the mail: {said}")
    return MailUnavailable(f"The mail server did not take the mail: {said}")


def _code_of(error: BaseException) -> int | None:
    match error:
        case smtplib.SMTPRecipientsRefused(recipients=recipients):
            return max((code for code, _ in recipients.values()), default=None)
        case smtplib.SMTPResponseException(smtp_code=int() as code):
            return code
        case _:
            return None


def _said(error: BaseException) -> str:
    match error:
        case smtplib.SMTPRecipientsRefused(recipients=recipients):
            return "; ".join(_answer(code, text) for code, text in recipients.values())
        case smtplib.SMTPResponseException(smtp_code=code, smtp_error=text):
            return _answer(code, text)
        case _:
            return str(error) or type(error).__name__


def _answer(code: int, text: bytes | str) -> str:
    shown = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    return f"{code} {' '.join(shown.split())}"
