"""Which key slot opened a repository last, remembered on this machine.

It is tried first the next time. So slots that somebody adds to the repository cost those who open it nothing.
It is only a hint: the slot is checked like any other.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from uuid import UUID

_FOLDER = "slots"
_FOLDER_MODE = 0o700


class LastSlot:
    """Remembers a slot by the repository's id and place.

    Args:
        cache_folder: where to remember it; nothing is remembered without one.
        repository_id: the repository.
        place: of the repository, see ``Store.place``.
    """

    def __init__(self, cache_folder: Path | None, repository_id: UUID, place: str) -> None:
        self._path: Path | None = None
        if cache_folder is not None:
            digest = hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:16]
            self._path = cache_folder / _FOLDER / f"{repository_id}-{digest}"

    def get(self) -> UUID | None:
        """The slot; None when nothing is remembered."""
        if self._path is not None:
            with contextlib.suppress(OSError, ValueError):
                return UUID(self._path.read_text(encoding="ascii").strip())
        return None

    def remember(self, slot_id: UUID | None) -> None:
        """Remember the slot, if that is possible; None changes nothing."""
        if self._path is None or slot_id is None or slot_id == self.get():
            return
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._path.parent)
            try:
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    file.write(f"{slot_id}\n")
                Path(name).replace(self._path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
