"""From a reference to the secret itself: a file, a command's output, a variable, a descriptor, a question.

The value goes into a :class:`~hvpsbridge.secret.Secret` at once. Errors say which reference failed and
why, never what was read. A command gets its arguments as a list, without a shell, and its output is not
logged; what it prints on standard error goes where ours goes, since password managers talk there.
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

# Keys and passwords are short; more than this is the wrong file.
MAX_SECRET_BYTES = 64 * 1024
# A password manager may ask for a fingerprint or a passphrase first.
COMMAND_SECONDS = 120

# Any right of group or others on a secret's file.
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
        ask: asks a question on the terminal without echo; None when there is no terminal.
        environment: variables to look in; the process's own without it.

    Raises:
        SecretUnavailable: it cannot be had, is empty, or its file can be read by others.
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
    return Secret(value)


def _from_file(path: Path, where: str) -> str:
    try:
        # Checked on the open file, so that it cannot be swapped between the look and the read.
        with path.open("rb") as file:
            held = os.fstat(file.fileno())
            if not stat.S_ISREG(held.st_mode):
                raise SecretUnavailable(where, f"{path} is no regular file; use fd or command for a pipe")
            if held.st_mode & _OTHERS:
                mode = stat.S_IMODE(held.st_mode)
                raise SecretUnavailable(
                    where, f"{path} has mode {mode:04o} and can be used by others; chmod 600 it"
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
        # The exception holds what was printed so far, so it is not chained.
        raise SecretUnavailable(
            where, f"command {command[0]} did not end within {COMMAND_SECONDS} s"
        ) from None
    if done.returncode != 0:
        raise SecretUnavailable(where, f"command {command[0]} ended with status {done.returncode}")
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
        raise SecretUnavailable(where, f"more than {MAX_SECRET_BYTES} bytes are no secret")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        # The exception holds the bytes, so it is not chained.
        raise SecretUnavailable(where, "the secret is not UTF-8 text") from None
    if text.startswith(EXPORT_MARK):
        # An exported key may be typed on several lines, as its printed page shows it.
        return text.strip()
    return text.split("\n", 1)[0].removesuffix("\r")
