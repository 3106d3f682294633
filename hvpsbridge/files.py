"""Files and folders that hvps makes on this machine."""

from __future__ import annotations

import contextlib
import os
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
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
