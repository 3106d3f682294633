"""Logging: a run id on every line, levels by ``-v``, and no secrets.

Rule: code that holds a secret does not log it. This module is the second line of defence: it replaces every
known secret in all text that is logged (message, arguments, traceback) or printed, except short ones and
plain words. In JSON documents only text values are changed (``console.document``). Libraries are logged from
WARNING on only, since some log whole requests at lower levels.
"""

from __future__ import annotations

import base64
import contextlib
import html
import io
import json
import logging
import os
import re
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote
from uuid import UUID

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.secret import HIDDEN, Secret
from hvpsbridge.text import cleaned, one_line, without_controls

# A secret such as ``done``, ``web01`` or ``2026`` is not replaced: that would make a log unreadable, hide
# what is not secret, and even tell what the secret is, since everyone knows which word belongs there.
MIN_REDACTED_CHARACTERS = 6
MIN_REDACTED_WORD_CHARACTERS = 12
_WORDS = re.compile(r"[A-Za-z]?[a-z]*(?:[ _-][A-Za-z]?[a-z]*)*|[A-Z]+|[0-9]+")

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
_LINE = "%(asctime)s %(levelname)-7s %(run)s %(name)s: %(message)s"
_PACKAGE = "hvpsbridge"


class Redactor:
    """Replaces known secret values in text. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: tuple[str, ...] = ()

    def add(self, secret: Secret) -> Secret:
        """Redact a secret from now on. Returns it, so that calls can be nested."""
        value = secret.reveal()
        data = value.encode()
        # As it is, on one line, and as Python, JSON, XML, URLs and HTTP write it.
        forms = {
            value,
            one_line(value),
            repr(value)[1:-1],
            json.dumps(value)[1:-1],
            # As xml.sax.saxutils.escape, which imports an HTTP client.
            html.escape(value, quote=False),
            quote(value),
            quote(value, safe=""),
            base64.b64encode(data).decode(),
        }
        with self._lock:
            known = {*self._values, *filter(_can_be_redacted, forms)}
            # Longest first, so that a secret that contains another one is replaced as a whole.
            self._values = tuple(sorted(known, key=len, reverse=True))
        return secret

    def __call__(self, text: str) -> str:
        """The text with every known secret replaced."""
        for value in self._values:
            if value in text:
                text = text.replace(value, HIDDEN)
        return text


def _can_be_redacted(form: str) -> bool:
    plain = _WORDS.fullmatch(form) is not None
    return len(form) >= (MIN_REDACTED_WORD_CHARACTERS if plain else MIN_REDACTED_CHARACTERS)


# A process has one command line and so one set of secrets.
redact = Redactor()


def printable(text: str) -> str:
    """Text without known secrets, cleaned, on one line."""
    return cleaned(redact(text))


class _Formatter(logging.Formatter):
    """ISO times in UTC, secrets replaced, text cleaned, the run id on every line (also of tracebacks).

    A message is one line, so that nothing in it can look like another message.
    """

    def __init__(self, run_id: UUID) -> None:
        super().__init__(_LINE)
        self._run = run_id.hex[:8]

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.run = self._run
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        lines = redact(super().formatException(ei)).split("\n")
        return "\n".join(f"{self._run} | {without_controls(line)}" for line in lines)

    def format(self, record: logging.LogRecord) -> str:
        # Other handlers may have formatted the traceback in their own way.
        record.exc_text = None
        return super().format(record)


class _LibrariesQuiet(logging.Filter):
    """Passes all records of hvps, and those of libraries from WARNING on."""

    def filter(self, record: logging.LogRecord) -> bool:
        own = record.name == _PACKAGE or record.name.startswith(f"{_PACKAGE}.")
        return own or record.levelno >= logging.WARNING


class _Handler(logging.StreamHandler[TextIO]):
    """A handler of :func:`set_up`, which replaces it when called again.

    A line that cannot be written is lost. The first one of a log file is reported on standard error.
    """

    def __init__(self, stream: TextIO, level: int, run_id: UUID, *, path: Path | None = None) -> None:
        super().__init__(stream)
        self._path = path
        self._failed = False
        self.setLevel(level)
        self.setFormatter(_Formatter(run_id))
        self.addFilter(_LibrariesQuiet())

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, unless an earlier one could not be written."""
        if not self._failed:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Report that the log cannot be written; an error in a message is left to logging."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self._report(error)
        else:
            super().handleError(record)

    def close(self) -> None:
        """Close the log file; standard error stays open."""
        if self._path is not None:
            try:
                self.stream.close()
            except OSError as err:
                self._report(err)
        super().close()

    def _report(self, err: OSError) -> None:
        if self._path is not None and not self._failed:
            text = printable(f"log file {self._path}: cannot be written: {err.strerror}; logging stops")
            with contextlib.suppress(OSError):
                sys.stderr.write(f"hvps: {text}\n")
        self._failed = True


def set_up(run_id: UUID, *, verbosity: int, log_file: Path | None, stream: TextIO | None = None) -> None:
    """Log to standard error, and to a file if one is given.

    Args:
        run_id: put on every line.
        verbosity: count of ``-v``: 0 logs warnings, 1 information, 2 debug output. The file has at least
            information.
        log_file: appended to; created with mode 0600.
        stream: used in place of standard error.

    Raises:
        ConfigurationError: the file cannot be opened.
    """
    level = _LEVELS[min(verbosity, len(_LEVELS) - 1)]
    tear_down()
    root = logging.getLogger()
    root.addHandler(_Handler(stream or sys.stderr, level, run_id))
    if log_file is not None:
        try:
            descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as err:
            raise ConfigurationError(f"log file {log_file}", f"cannot be opened: {err.strerror}") from err
        # Each line is one write: what a full disk refuses is not kept to fail again.
        file = io.TextIOWrapper(
            io.FileIO(descriptor, "a"),
            encoding="utf-8",
            errors="backslashreplace",
            write_through=True,
        )
        level = min(level, logging.INFO)
        root.addHandler(_Handler(file, level, run_id, path=log_file))
    root.setLevel(level)


def tear_down() -> None:
    """Remove the handlers of :func:`set_up`."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _Handler):
            root.removeHandler(handler)
            handler.close()
