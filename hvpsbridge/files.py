"""Files and folders that hvps makes on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

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
