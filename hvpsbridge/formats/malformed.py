"""The one error of the storage codecs; the repository turns it into ``Damaged`` with the object's name."""

from __future__ import annotations


class Malformed(ValueError):
    """Stored bytes do not have the form they must have."""


class UnknownFields(Malformed):
    """A record has fields this code does not know: a newer hvps wrote it."""


class UnknownVersion(Malformed):
    """Written in a format this code does not know. Carries both numbers, so that the text can too."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(f"format {found}, known up to {known}")
        self.found = found
        self.known = known
