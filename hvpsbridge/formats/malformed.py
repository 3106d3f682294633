"""The errors of the storage codecs. The repository turns them into ``Damaged`` with the object's name."""

from __future__ import annotations


class Malformed(ValueError):
    """Stored bytes do not have the expected form."""


class UnknownFields(Malformed):
    """A record has unknown fields: a newer hvps wrote it."""


class UnknownVersion(Malformed):
    """Written in an unknown format.

    Attributes:
        found: the number of that format.
        known: the newest known one.
    """

    def __init__(self, found: int, known: int) -> None:
        super().__init__(f"format {found}; this hvps knows formats up to {known}")
        self.found = found
        self.known = known
