"""Reads secrets: from a file, a command, an environment variable, a file descriptor or the terminal.

A secret becomes a ``Secret`` at once. Errors say which reference failed and why, never what was read. A
command is run without a shell, and its output is not logged. Its standard error is that of hvps, since
password managers print there. Nothing is waited for without a limit.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from hvpsbridge.errors import SecretUnavailable
from hvpsbridge.formats.keyslot import EXPORT_MARK
from hvpsbridge.playbook import program
from hvpsbridge.playbook.places import SecretRef
from hvpsbridge.playbook.program import Waiting
from hvpsbridge.secret import Secret

logger = logging.getLogger(__name__)

Ask = Callable[[str], str]
Say = Callable[[str], None]

# Keys and passwords are short; a larger file is the wrong one.
MAX_SECRET_BYTES = 64 * 1024
# For a command or a pipe. A password manager may ask for a fingerprint or a passphrase first.
WAIT_SECONDS = 120

# How a private key in PEM form begins.
PEM_MARK = "-----BEGIN "

_NOT_TEXT = "the secret is not UTF-8 text"

# Any permission of group or others.
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def resolve(
    reference: SecretRef,
    where: str,
    *,
    ask: Ask | None = None,
    say: Say = logger.info,
    environment: Mapping[str, str] | None = None,
) -> Secret:
    """The secret that a reference names.

    Args:
        reference: where it is.
        where: what it is for (``hosts.hv02.password``, ``--password-file``), for messages.
        ask: asks a question on the terminal without echo; None if there is no terminal.
        say: called with a line that says what is waited for, if it takes a few seconds.
        environment: environment variables; those of the process by default.

    Raises:
        SecretUnavailable: it cannot be read, is empty, or others have access to its file.
    """
    if reference.file is not None:
        value = _from_file(reference.file, where)
    elif reference.command is not None:
        value = _from_command(reference.command, where, say)
    elif reference.env is not None:
        value = _from_environment(reference.env, where, os.environ if environment is None else environment)
    elif reference.fd is not None:
        value = _from_descriptor(reference.fd, where, say)
    else:
        value = _from_question(reference.prompt or "Password", where, ask)
    if not value:
        raise SecretUnavailable(where, "the secret is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        # Of a variable or a terminal. Not chained: the exception contains a letter and its place.
        raise SecretUnavailable(where, _NOT_TEXT) from None
    return Secret(value)


def _from_file(path: Path, where: str) -> str:
    try:
        # Without blocking, as a named pipe would. The open file is checked, since the path could be replaced
        # before it is read.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            held = os.fstat(descriptor)
            if not stat.S_ISREG(held.st_mode):
                raise SecretUnavailable(where, f"{path} is not a regular file; use fd or command for a pipe")
            if held.st_mode & _OTHERS:
                mode = stat.S_IMODE(held.st_mode)
                raise SecretUnavailable(
                    where, f"{path} has mode {mode:04o}, which gives others access; run chmod 600"
                )
            return _first_line(file.read(MAX_SECRET_BYTES + 1), where)
    except OSError as err:
        raise SecretUnavailable(where, f"{path}: {err.strerror}") from err


def _from_command(command: tuple[str, ...], where: str, say: Say) -> str:
    name = f"command {command[0]}"
    waiting = Waiting(WAIT_SECONDS, lambda: say(f"waiting for {name} ({where})"))
    try:
        with program.start(command) as started:
            data, status = program.output(started, MAX_SECRET_BYTES, waiting)
    except OSError as err:
        raise SecretUnavailable(where, f"{name}: {err.strerror}") from err
    if status is None and len(data) > MAX_SECRET_BYTES:
        raise SecretUnavailable(where, f"{name} printed more than {MAX_SECRET_BYTES} bytes")
    if status is None:
        raise SecretUnavailable(where, f"{name} did not end within {WAIT_SECONDS} s")
    if status != 0:
        raise SecretUnavailable(where, f"{name} exited with status {status}")
    return _first_line(data, where)


def _from_environment(name: str, where: str, environment: Mapping[str, str]) -> str:
    if name not in environment:
        raise SecretUnavailable(where, f"environment variable {name} is not set")
    return environment[name]


def _from_descriptor(number: int, where: str, say: Say) -> str:
    name = f"file descriptor {number}"
    waiting = Waiting(WAIT_SECONDS, lambda: say(f"waiting for {name} ({where})"))
    try:
        with os.fdopen(number, "rb", buffering=0):
            data = program.read_all(number, MAX_SECRET_BYTES, waiting)
    except OverflowError:
        raise SecretUnavailable(where, "there is no such file descriptor") from None
    except OSError as err:
        raise SecretUnavailable(where, f"{name}: {err.strerror}") from err
    if data is None:
        raise SecretUnavailable(where, f"{name} was not closed within {WAIT_SECONDS} s")
    return _first_line(data, where)


def _from_question(question: str, where: str, ask: Ask | None) -> str:
    if ask is None:
        raise SecretUnavailable(where, "there is no terminal to ask on; use file, command, env or fd")
    return ask(f"{question}: ")


def _first_line(data: bytes, where: str) -> str:
    if len(data) > MAX_SECRET_BYTES:
        raise SecretUnavailable(where, f"has more than {MAX_SECRET_BYTES} bytes; is this the right file?")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        # Not chained: the exception contains the bytes.
        raise SecretUnavailable(where, _NOT_TEXT) from None
    if text.startswith((EXPORT_MARK, PEM_MARK)):
        # An exported key may have several lines, as on its printed page, and a private key in PEM form has.
        return text.strip()
    return text.split("\n", 1)[0].removesuffix("\r")
