"""Reads secrets: from a file, a command, an environment variable, a file descriptor or the terminal.

A secret becomes a ``Secret`` at once. Errors say which reference failed and why, never what was read. A
command is run without a shell, and its output is not logged. Its standard error is that of hvps, since
password managers print there.
"""

from __future__ import annotations

import logging
import os
import stat
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from hvpsbridge.errors import SecretUnavailable
from hvpsbridge.formats.keyslot import EXPORT_MARK
from hvpsbridge.playbook.places import SecretRef
from hvpsbridge.secret import Secret

logger = logging.getLogger(__name__)

Ask = Callable[[str], str]

# Keys and passwords are short; a larger file is the wrong one.
MAX_SECRET_BYTES = 64 * 1024
# A password manager may ask for a fingerprint or a passphrase first.
COMMAND_SECONDS = 120

_NOT_TEXT = "the secret is not UTF-8 text"

# Any permission of group or others.
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def resolve(
    reference: SecretRef,
    where: str,
    *,
    ask: Ask | None = None,
    environment: Mapping[str, str] | None = None,
) -> Secret:
    """The secret that a reference names.

    Args:
        reference: where it is.
        where: what it is for (``hosts.hv02.password``, ``--password-file``), for messages.
        ask: asks a question on the terminal without echo; None if there is no terminal.
        environment: environment variables; those of the process by default.

    Raises:
        SecretUnavailable: it cannot be read, is empty, or others have access to its file.
    """
    if reference.file is not None:
        value = _from_file(reference.file, where)
    elif reference.command is not None:
        value = _from_command(reference.command, where)
    elif reference.env is not None:
        value = _from_environment(reference.env, where, os.environ if environment is None else environment)
    elif reference.fd is not None:
        value = _from_descriptor(reference.fd, where)
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
        # The open file is checked, since the path could be replaced before it is read.
        with path.open("rb") as file:
            held = os.fstat(file.fileno())
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


def _from_command(command: tuple[str, ...], where: str) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=COMMAND_SECONDS, check=False
        )
    except OSError as err:
        raise SecretUnavailable(where, f"command {command[0]}: {err.strerror}") from err
    except subprocess.TimeoutExpired:
        # Not chained: the exception contains what was printed so far.
        raise SecretUnavailable(
            where, f"command {command[0]} did not end within {COMMAND_SECONDS} s"
        ) from None
    if done.returncode != 0:
        raise SecretUnavailable(where, f"command {command[0]} exited with status {done.returncode}")
    return _first_line(done.stdout, where)


def _from_environment(name: str, where: str, environment: Mapping[str, str]) -> str:
    if name not in environment:
        raise SecretUnavailable(where, f"environment variable {name} is not set")
    return environment[name]


def _from_descriptor(number: int, where: str) -> str:
    try:
        with os.fdopen(number, "rb") as file:
            return _first_line(file.read(MAX_SECRET_BYTES + 1), where)
    except OSError as err:
        raise SecretUnavailable(where, f"file descriptor {number}: {err.strerror}") from err


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
    if text.startswith(EXPORT_MARK):
        # An exported key may have several lines, as on its printed page.
        return text.strip()
    return text.split("\n", 1)[0].removesuffix("\r")
