"""Which objects could not be read, remembered on this machine for a day.

Anyone who can create objects can add some that look like index objects and lists of bad frames. Whether they
are can only be seen by reading them, which every opening would do again. Nothing depends on what is
remembered: ``verify`` reads every object, and a chunk that is in no index is looked for in all of them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from hvpsbridge.files import replace_file
from hvpsbridge.repository.stores.base import ObjectInfo
from hvpsbridge.units import MIB

_FILE_NAME = "unreadable"
# An object that was put back from a copy of the storage is read again after this time.
KEEP_SECONDS = 86400.0
# Beyond this, objects are read each time: nobody adds a hundred thousand by accident.
MAX_OBJECTS = 100_000
_MAX_FILE_BYTES = 16 * MIB


class Unreadable:
    """Remembers objects by name and size. What one of several processes adds may get lost, and is read again.

    Args:
        folder: of the repository on this machine; None to remember them only in this process.
        clock: for tests.
    """

    def __init__(self, folder: Path | None, clock: Callable[[], float] = lambda: time.time()) -> None:
        self._path = None if folder is None else folder / _FILE_NAME
        self._clock = clock
        self._known = self._load()
        self._changed = False

    def __contains__(self, info: ObjectInfo) -> bool:
        size, seen = self._known.get(info.name, (-1, 0.0))
        return size == info.size_bytes and 0 <= self._clock() - seen < KEEP_SECONDS

    def add(self, info: ObjectInfo) -> None:
        """Remember that the object cannot be read."""
        if len(self._known) < MAX_OBJECTS:
            self._known[info.name] = (info.size_bytes, self._clock())
            self._changed = True

    def save(self) -> None:
        """Write the file, if that is possible and anything has changed."""
        if self._path is None or not self._changed:
            return
        self._changed = False
        now = self._clock()
        lines = [
            f"{name} {size} {int(seen)}\n"
            for name, (size, seen) in self._known.items()
            if now - seen < KEEP_SECONDS
        ]
        with contextlib.suppress(OSError):
            replace_file(self._path, "".join(lines))

    def _load(self) -> dict[str, tuple[int, float]]:
        found: dict[str, tuple[int, float]] = {}
        if self._path is None:
            return found
        with contextlib.suppress(OSError, ValueError):
            with self._path.open(encoding="ascii") as file:
                text = file.read(_MAX_FILE_BYTES)
            for line in text.splitlines()[:MAX_OBJECTS]:
                name, size, seen = line.split()
                found[name] = (int(size), float(seen))
        return found
