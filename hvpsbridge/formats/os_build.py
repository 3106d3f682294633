"""The build of Windows that a host runs: what proofs of its change tracking hold for."""

from __future__ import annotations

import re
from dataclasses import dataclass

# All versions of Windows with change tracking are 10.0.
_TEXT = re.compile(r"10\.0\.([0-9]{1,9})(?:\.([0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class OsBuild:
    """A build of Windows; its text is ``10.0.20348.2700``.

    Attributes:
        build: the build number.
        revision: grows with each cumulative update (UBR); 0 if unknown, and then not in the text.
    """

    build: int
    revision: int = 0

    def __str__(self) -> str:
        return f"10.0.{self.build}.{self.revision}" if self.revision else f"10.0.{self.build}"


def parse_os_build(text: str) -> OsBuild:
    """The build that ``text`` names.

    Raises:
        ValueError: it names none.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a build of Windows; use for example 10.0.20348.2700")
    return OsBuild(int(found[1]), int(found[2] or 0))
