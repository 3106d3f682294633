"""Checks XML of a host before a parser that builds trees of it, recursively, reads it."""

from __future__ import annotations

from xml.parsers import expat

from pypsrp.exceptions import WinRMError

# SOAP around a list of shells is 8 deep, an error record 12. Trees are read and freed by recursion.
MAX_DEPTH = 64
# An element costs a hundred times its bytes. A reply with 2000 shells has 40,000.
MAX_ELEMENTS = 100_000


class UnusableReply(WinRMError):
    """A reply that hvps does not read, whatever it says."""


def check_xml(data: bytes, max_elements: int = MAX_ELEMENTS) -> None:
    """Return if ``data`` may be parsed. Whether it is well-formed is left to the parser.

    Raises:
        UnusableReply: it is too deep, has too many elements, or declares entities.
    """
    depth = elements = 0

    def start(name: str, attributes: object) -> None:
        nonlocal depth, elements
        depth += 1
        elements += 1
        if depth > MAX_DEPTH or elements > max_elements:
            raise UnusableReply(f"XML of {elements} elements, {depth} deep, is too complex for a reply")

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    def declare(*parts: object) -> None:
        raise UnusableReply("XML with a document type is not a reply")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = declare
    try:
        parser.Parse(data, True)
    except expat.ExpatError:
        return
