"""Text in CLIXML, read as PowerShell reads it.

pypsrp raises for an underscore that begins no escape (``_xprod_``), and for half of a surrogate pair, as in a
name that was cut within an emoji. One such name would make all VMs of its host unreadable.
"""

from __future__ import annotations

import re

from pypsrp.serializer import Serializer

_ESCAPE = re.compile("_[xX]([0-9A-Fa-f]{4})_")


class TextSerializer(Serializer):
    """pypsrp's serializer, which takes any text."""

    def _deserialize_string(self, value: str | None) -> str:
        return clixml_text(value or "")


def clixml_text(value: str) -> str:
    """The text of a CLIXML string element; half of a surrogate pair becomes U+FFFD.

    No text of hvps has such halves: neither UTF-8 nor a file name can hold them.
    """
    units = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), value)
    return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
