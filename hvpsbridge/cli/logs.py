"""Logging: a run id on every line, levels from ``-v``, and no secret in any of them.

Rule: code that holds a secret does not log it. This module is the second line of defence: it replaces every
known secret in all text that is logged (message, arguments, traceback) or printed. In JSON documents only
text values are changed (``console.document``). Libraries are logged from WARNING on only, since some log
whole requests at lower levels.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO
from uuid import UUID

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.secret import HIDDEN, Secret

# Shorter secrets would turn half the log into stars, and hide nothing worth hiding.
MIN_REDACTED_CHARACTERS = 4

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
_LINE = "%(asctime)s %(levelname)-7s %(run)s %(name)s: %(message)s"
_OURS = "hvpsbridge"
# A line break with what stands around it; a host's messages have them.
_LINE_BREAK = re.compile(r"\s*[\r\n]\s*")


class Redactor:
    """Replaces known secret values in text. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: tuple[str, ...] = ()

    def add(self, secret: Secret) -> Secret:
        """Make a secret known; gives it back, so that a resolver can be wrapped in it."""
        value = secret.reveal()
        # As it is, on one line, quoted by Python, and as HTTP sends it.
        forms = {value, " ".join(value.split()), repr(value)[1:-1], base64.b64encode(value.encode()).decode()}
        with self._lock:
            known = {*self._values, *(form for form in forms if len(form) >= MIN_REDACTED_CHARACTERS)}
            # Longest first: a secret that holds another one is replaced whole.
            self._values = tuple(sorted(known, key=len, reverse=True))
        return secret

    def __call__(self, text: str) -> str:
        """The text with every known value replaced."""
        for value in self._values:
            if value in text:
                text = text.replace(value, HIDDEN)
        return text


# One process has one command line and one set of secrets.
redact = Redactor()


def printable(text: str) -> str:
    """Text without control characters and without known secrets, on one line."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in _LINE_BREAK.sub(" ", redact(text))
    )


class _Formatter(logging.Formatter):
    """ISO times in UTC, the run's id on every line (tracebacks too), and secrets replaced."""

    def __init__(self, run_id: UUID) -> None:
        super().__init__(_LINE)
        self._run = run_id.hex[:8]

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")

    def format(self, record: logging.LogRecord) -> str:
        record.run = self._run
        text = redact(super().format(record))
        return text.replace("\n", f"\n{self._run} | ")


class _LibrariesQuiet(logging.Filter):
    """Lets our own records pass, and others' from WARNING on."""

    def filter(self, record: logging.LogRecord) -> bool:
        ours = record.name == _OURS or record.name.startswith(f"{_OURS}.")
        return ours or record.levelno >= logging.WARNING


class _Handler(logging.StreamHandler[TextIO]):
    """A handler that :func:`set_up` made, and replaces when it is called again."""

    def __init__(self, stream: TextIO, level: int, run_id: UUID, *, owned: bool = False) -> None:
        super().__init__(stream)
        self._owned = owned
        self.setLevel(level)
        self.setFormatter(_Formatter(run_id))
        self.addFilter(_LibrariesQuiet())

    def close(self) -> None:
        """Close the log file too; standard error is not ours to close."""
        if self._owned:
            self.stream.close()
        super().close()


def set_up(run_id: UUID, *, verbosity: int, log_file: Path | None, stream: TextIO | None = None) -> None:
    """Send log lines to standard error, and to a file when one is named.

    Args:
        run_id: stands on every line.
        verbosity: count of ``-v``: warnings, then information, then debugging. The file gets at least
            information.
        log_file: appended to; made for its owner only.
        stream: instead of standard error.

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
        file = os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace", buffering=1)
        level = min(level, logging.INFO)
        root.addHandler(_Handler(file, level, run_id, owned=True))
    root.setLevel(level)


def tear_down() -> None:
    """Take away what :func:`set_up` made."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _Handler):
            root.removeHandler(handler)
            handler.close()
