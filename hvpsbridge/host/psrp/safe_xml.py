"""Checks XML of a host before a parser that builds trees of it, recursively, reads it.

The parsers must read what was checked. Some take bytes, in the encoding that a document declares, and some
text, for which a declaration means nothing. So only UTF-8 is taken, which is what hosts answer to UTF-8.
"""

from __future__ import annotations

import codecs
from xml.parsers import expat

from pypsrp.exceptions import WinRMError

# SOAP around a list of shells is 8 deep, an error record 12. Trees are read and freed by recursion.
MAX_DEPTH = 64
MAX_CLIXML_DEPTH = 32
# An element costs a hundred times its bytes. A reply with 2000 shells has 40,000.
MAX_ELEMENTS = 100_000
# An object with an array is copied twice, one in an error record five times, but these are small.
MAX_COPIES = 4
SMALL_BYTES = 1024 * 1024
_UTF8 = ("utf-8", "utf8")


class UnusableReply(WinRMError):
    """A reply that hvps does not read, whatever it says."""


def check_xml(data: bytes) -> None:
    """Return if ``data`` may be parsed. Whether it is well-formed is left to the parser.

    Raises:
        UnusableReply: it is too deep, has too many elements, declares entities, or is not UTF-8.
    """
    _check(data, MAX_DEPTH, None)


def fault_text(data: bytes) -> str:
    """The text of an error reply; it may be parsed.

    Raises:
        UnusableReply: as for :func:`check_xml`.
    """
    text = data.decode("utf-8", "replace")
    # Not the bytes: replaced letters can make XML well-formed.
    check_xml(text.encode())
    return text


def check_clixml(data: bytes) -> None:
    """Return if pypsrp may read ``data``, of which it copies each object with all that is within.

    Raises:
        ValueError: it is too deep, has too many elements, declares entities, is not UTF-8, or would be copied
            too often.
    """
    # pypsrp leaves one out as well.
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        _check(data, MAX_CLIXML_DEPTH, MAX_COPIES * len(data) + SMALL_BYTES)
    except UnusableReply as err:
        raise ValueError(str(err)) from err


def _check(data: bytes, max_depth: int, max_copied: int | None) -> None:
    depth = elements = copied = 0
    starts: list[int] = []

    def start(name: str, attributes: object) -> None:
        nonlocal depth, elements
        depth += 1
        elements += 1
        if depth > max_depth or elements > MAX_ELEMENTS:
            raise UnusableReply(f"XML of {elements} elements, {depth} deep, is too complex for a reply")
        if name == "Obj":
            starts.append(parser.CurrentByteIndex)

    def end(name: str) -> None:
        nonlocal depth, copied
        depth -= 1
        if name == "Obj":
            copied += parser.CurrentByteIndex - starts.pop()
            if max_copied is not None and copied > max_copied:
                raise UnusableReply("XML of objects nested too much for a reply")

    def declare(*parts: object) -> None:
        raise UnusableReply("XML with a document type is not a reply")

    def encoded(version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() not in _UTF8:
            raise UnusableReply(f"XML in {encoding[:20]} is not a reply")

    if b"\0" in data:
        raise UnusableReply("XML in UTF-16 or UTF-32 is not a reply")
    parser = expat.ParserCreate("utf-8")
    parser.XmlDeclHandler = encoded
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = declare
    try:
        parser.Parse(data, True)
    except expat.ExpatError:
        return
    finally:
        # A handler that knows its parser would keep both until the garbage collector finds them.
        parser.StartElementHandler = parser.EndElementHandler = None
        parser.XmlDeclHandler = parser.StartDoctypeDeclHandler = None
