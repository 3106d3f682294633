"""Records that never change, and so are read once."""

from __future__ import annotations

import logging
from typing import Generic, TypeVar

from hvpsbridge.errors import Damaged, NewerObject, ObjectMissing
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.repository.objects import Objects

logger = logging.getLogger(__name__)
T = TypeVar("T")


class ReadOnce(Generic[T]):
    """Records of one kind by object name. One that cannot be read is logged once.

    Args:
        objects: where they are.
        record: their class.
        kind: of the objects.
    """

    def __init__(self, objects: Objects, record: type[T], kind: Kind) -> None:
        self._objects = objects
        self._record = record
        self._kind = kind
        self._read: dict[str, T | None] = {}

    def get(self, name: str) -> T | None:
        """The record; None if it cannot be read, or is gone."""
        if name not in self._read:
            try:
                self._read[name] = self._objects.read_record(self._record, name, self._kind)
            except ObjectMissing:
                return None
            except (Damaged, NewerObject) as err:
                logger.error("%s", err)
                self._read[name] = None
        return self._read[name]
