"""State of one command line: run id, logging, settings, secrets, and what to close at the end."""

from __future__ import annotations

import getpass
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from uuid import UUID, uuid4

from hvpsbridge import __version__
from hvpsbridge.cli import console, logs
from hvpsbridge.errors import Interrupted, SecretUnavailable
from hvpsbridge.folders import expanded, home_folder
from hvpsbridge.playbook.places import SecretRef
from hvpsbridge.playbook.secrets import resolve
from hvpsbridge.playbook.specs import SettingsSpec
from hvpsbridge.secret import Secret

logger = logging.getLogger(__name__)

CONFIG_VARIABLE = "HVPS_CONFIG"


@dataclass(slots=True)
class Invocation:
    """State of one command line. As a context manager it closes what is on ``closing``.

    Attributes:
        run_id: part of every log line, of marks on hosts and of manifests.
        verbosity: count of ``-v``.
        log_file: also receives the log.
        settings: from the configuration file.
        as_json: whether standard output is one JSON document, even on failure.
        as_lines: whether it is JSON lines, even on failure.
        started: UTC.
        closing: resources to close at the end.
    """

    run_id: UUID = field(default_factory=uuid4)
    verbosity: int = 0
    log_file: Path | None = None
    settings: SettingsSpec = field(default_factory=SettingsSpec)
    as_json: bool = False
    as_lines: bool = False
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    closing: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Invocation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.__exit__(kind, error, trace)

    def begin(self, *, verbosity: int, log_file: Path | None, config: Path | None) -> None:
        """Read the configuration file and start logging. Options take precedence over the file.

        Raises:
            ConfigurationError: the file or the log file cannot be used.
        """
        self.verbosity = verbosity
        self.settings = load_settings(config)
        self.log_file = log_file or self.settings.log_file
        logs.set_up(self.run_id, verbosity=verbosity, log_file=self.log_file)
        logger.info("hvps %s starts run %s", __version__, self.run_id)

    def more_verbose(self, count: int) -> None:
        """Log more from now on, for ``-v`` after the name of a command."""
        self.verbosity += count
        logs.set_up(self.run_id, verbosity=self.verbosity, log_file=self.log_file)

    def secret(self, reference: SecretRef, where: str) -> Secret:
        """The secret of a reference. It is redacted in all output from now on.

        Raises:
            SecretUnavailable: it cannot be read.
        """
        return logs.redact.add(resolve(reference, where, ask=ask if self.can_ask else None, say=_say))

    @property
    def can_ask(self) -> bool:
        """Whether standard input is a terminal, so that the user can be asked."""
        return sys.stdin.isatty()

    def new_secret(self, what: str) -> Secret:
        """A new secret, typed twice by the user.

        Raises:
            SecretUnavailable: the two differ, or nothing was typed.
        """
        first = self.secret(SecretRef(prompt=f"New {what}"), what)
        if self.secret(SecretRef(prompt=f"New {what} again"), what) != first:
            raise SecretUnavailable(what, "the two entries differ")
        return first


def _say(text: str) -> None:
    console.note(f"hvps: {text}")


def ask(question: str) -> str:
    """A line that the user types, without echo.

    Raises:
        Interrupted: the user pressed Ctrl-C.
        SecretUnavailable: the input ended.
    """
    try:
        return getpass.getpass(logs.printable(question))
    except KeyboardInterrupt as err:
        raise Interrupted("SIGINT") from err
    except EOFError as err:
        raise SecretUnavailable("terminal", "nothing was typed") from err
    except UnicodeError:
        # Not chained: the exception contains what was typed.
        raise SecretUnavailable("terminal", "the input is not text in the locale's encoding") from None


def load_settings(named: Path | None) -> SettingsSpec:
    """Settings from the file of ``--config`` or ``HVPS_CONFIG``, else of the user, else of the system.

    Raises:
        ConfigurationError: the named file does not exist, or a file is invalid.
    """
    if named is None and os.environ.get(CONFIG_VARIABLE):
        named = Path(os.environ[CONFIG_VARIABLE])
    if named is not None:
        return _read_settings(named)
    for path in _default_files():
        try:
            exists = path.is_file()
        except OSError as err:
            # As with the home folder of another user: there may be none.
            console.note(f"hvps: {path} cannot be looked up ({err.strerror}); continuing without it")
            continue
        if exists:
            return _read_settings(path)
    return SettingsSpec()


def _read_settings(path: Path) -> SettingsSpec:
    # Imports all tasks, which takes a twentieth of the start of a command.
    from hvpsbridge.playbook.read import parse_as, read_text

    return parse_as(SettingsSpec, read_text(path), str(path))


def _default_files() -> Iterator[Path]:
    base, home = os.environ.get("XDG_CONFIG_HOME"), home_folder()
    if base:
        yield expanded(Path(base)) / "hvps" / "config.yaml"
    elif home is not None:
        yield home / ".config" / "hvps" / "config.yaml"
    yield Path("/etc/hvps/config.yaml")
