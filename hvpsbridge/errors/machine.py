"""Errors of the machine that hvps runs on: its files, memory, limits and locale."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import ClassVar

from hvpsbridge.errors.base import ExitCode, HvpsError
from hvpsbridge.errors.internal import InternalError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REMEDIES = {
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files of the system (fs.file-max)",
    errno.EAGAIN: "raise the limit of processes (ulimit -u)",
    errno.ENOMEM: "free some memory, or use fewer --forks and --max-readers",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
}
_NO_THREAD = "can't start new thread"


@dataclass(eq=False)
class MachineError(HvpsError):
    """This machine refused something that hvps needs: a file, memory, a thread.

    Attributes:
        what: what failed, and why.
        advice: what to do; empty if that depends.
        full: whether a file system is full.
    """

    what: str
    advice: str = ""
    full: bool = False
    template: ClassVar[str] = "{what}"
    remedy: ClassVar[str] = "{advice}"
    exit_code: ClassVar[ExitCode] = ExitCode.INVALID

    @property
    def code(self) -> ExitCode:
        """13 for a full file system, else 5."""
        return ExitCode.NO_SPACE if self.full else self.exit_code


@dataclass(eq=False)
class OutputLost(MachineError):
    """Results could not be written to standard output."""


def is_full(err: OSError) -> bool:
    """Whether the file system, a quota or the largest possible file is full."""
    return err.errno in _FULL


def limit_advice(err: OSError) -> str:
    """What to do about a limit of open files; empty for any other error."""
    return _REMEDIES[err.errno] if err.errno in (errno.EMFILE, errno.ENFILE) else ""


def machine_error(err: BaseException, what: str = "") -> MachineError | None:
    """The error for an exception whose cause is this machine, not hvps; None for any other exception.

    The text never has the values that an exception holds: they may be secret.

    Args:
        what: what failed, if it is known; otherwise the file that the exception names.
    """
    if isinstance(err, OSError):
        reason = err.strerror or type(err).__name__
        where = what or (str(err.filename) if err.filename is not None else "this machine")
        return MachineError(f"{where}: {reason}", _REMEDIES.get(err.errno or 0, ""), is_full(err))
    if isinstance(err, MemoryError):
        return MachineError(f"{what or 'this machine'}: out of memory", _REMEDIES[errno.ENOMEM])
    if isinstance(err, RuntimeError) and str(err) == _NO_THREAD:
        return MachineError(f"{what or 'this machine'}: no thread can be started", _REMEDIES[errno.EAGAIN])
    if isinstance(err, UnicodeEncodeError):
        return MachineError(
            f"{what or 'a name'}: has a character that the locale's encoding ({err.encoding}) lacks",
            "use a UTF-8 locale, for example LC_ALL=C.UTF-8",
        )
    return None


def as_error(err: Exception) -> HvpsError:
    """The error for any exception: itself, an error of this machine, or a bug."""
    if isinstance(err, HvpsError):
        return err
    known = machine_error(err) or InternalError(f"{type(err).__name__}: {err}")
    known.__cause__ = err
    return known
