"""Which key slot opened a repository last, remembered on this machine.

It is tried first the next time. So slots that somebody adds to the repository cost those who open it nothing.
It is only a hint: the slot is checked like any other.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from uuid import UUID

from hvpsbridge.files import replace_file

_FILE_NAME = "slot"


class LastSlot:
    """Remembers a slot.

    Args:
        folder: of the repository on this machine; nothing is remembered without one.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / _FILE_NAME

    def get(self) -> UUID | None:
        """The slot; None when nothing is remembered."""
        if self._path is not None:
            with contextlib.suppress(OSError, ValueError):
                return UUID(self._path.read_text(encoding="ascii").strip())
        return None

    def remember(self, slot_id: UUID | None) -> None:
        """Remember the slot, if that is possible; None changes nothing."""
        if self._path is not None and slot_id not in (None, self.get()):
            with contextlib.suppress(OSError):
                replace_file(self._path, f"{slot_id}\n")
