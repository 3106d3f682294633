"""Files and folders that hvps makes on this machine."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Other users of the machine must not read what hvps writes.
FOLDER_MODE = 0o700


def replace_file(path: Path, text: str) -> None:
    """Write a file that only this user may read, with its folder; readers see the old text or the new one.

    Raises:
        OSError: it cannot be written; what was there stays.
        ValueError: the text is not valid UTF-8; what was there stays.
    """
    path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    _write(path, text, like=None)


def rewrite_file(path: Path, text: str) -> None:
    """Replace the text of an existing file of the user's, keeping its mode and, where possible, its owner.

    Readers see the old text or the new one. A link stays, and the file that it leads to is replaced.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    real = path.resolve(strict=True)
    _write(real, text, like=real)


def _write(path: Path, text: str, *, like: Path | None) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        # Line ends stay as they are.
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            if like is not None:
                held = like.stat()
                with contextlib.suppress(PermissionError):
                    os.fchown(descriptor, held.st_uid, held.st_gid)
                shutil.copymode(like, temporary)
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


class StateFile:
    """A small JSON file in which hvps remembers something from run to run.

    Args:
        path: of the file; its folder is made when it is written.
        version: of its content.
    """

    # An entry takes some 200 bytes; a larger file was not written by hvps.
    MAX_BYTES = 1 << 20

    def __init__(self, path: Path, version: int) -> None:
        self.path = path
        self._version = version

    def read(self) -> dict[str, Any] | None:
        """The content; None if the file is missing.

        Raises:
            OSError: it cannot be read.
            ValueError: it is of another version, or hvps cannot have written it.
        """
        try:
            with self.path.open("rb") as file:
                document = json.loads(file.read(self.MAX_BYTES + 1))
        except FileNotFoundError:
            return None
        except RecursionError as err:
            raise ValueError("nested too deeply") from err
        if not isinstance(document, dict) or document.get("version") != self._version:
            raise ValueError(f"not version {self._version} of this file")
        return document

    def write(self, content: Mapping[str, Any]) -> None:
        """Replace the content.

        Raises:
            OSError: it cannot be written; what was there stays.
            ValueError: it is not JSON; what was there stays.
        """
        replace_file(self.path, json.dumps({"version": self._version, **content}, indent=1, sort_keys=True))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Make other processes wait that do the same, from a read to the write that follows.

        Raises:
            OSError: the file of the lock cannot be made.
        """
        self.path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
