"""Folders of this machine and user that may be missing: home, working directory, temporary folder."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from hvpsbridge.errors import ConfigurationError


def home_folder() -> Path | None:
    """The user's home folder; None if ``HOME`` is not set and the user has no account here."""
    with contextlib.suppress(RuntimeError):
        return Path.home()
    return None


def user_folder(variable: str, *default: str) -> Path | None:
    """A folder of hvps for this user: ``hvps`` in the one that the variable names, or in the usual one.

    A relative path in the variable is not used (XDG Base Directory Specification).

    Args:
        variable: such as ``XDG_STATE_HOME``.
        default: parts of the usual folder, below the home folder.

    Returns:
        None for a user without a home folder.
    """
    base = os.environ.get(variable)
    if base and Path(base).is_absolute():
        return Path(base) / "hvps"
    home = home_folder()
    return None if home is None else home.joinpath(*default, "hvps")


def expanded(path: Path) -> Path:
    """The path with ``~`` or ``~user`` at its start replaced by a home folder.

    Raises:
        ConfigurationError: that user has none.
    """
    try:
        return path.expanduser()
    except RuntimeError as err:
        raise ConfigurationError(
            str(path), f"no home folder is known for {path.parts[0]}; use an absolute path"
        ) from err


def absolute(path: Path) -> Path:
    """The path as an absolute one, with ``~`` expanded; links and ``..`` stay.

    Raises:
        ConfigurationError: it is relative, and the working directory is gone; or as :func:`expanded`.
    """
    try:
        return expanded(path).absolute()
    except OSError as err:
        raise ConfigurationError(
            str(path), f"the working directory cannot be used ({err.strerror}); use an absolute path"
        ) from err


def temporary_folder_text() -> str:
    """The folder of temporary files, for messages."""
    try:
        return tempfile.gettempdir()
    except OSError:
        return "TMPDIR, /tmp or the working directory"
