"""Layouts of WSMan messages: what stays when texts, ids and numbers are left out.

The files in ``windows/`` have the layout of replies that real hosts gave and that pypsrp's tests recorded;
each names its recording. Their texts and values are our own. ``@WORDS@`` are filled in by :func:`filled`.
"""

from __future__ import annotations

import base64
import struct
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias
from xml.parsers import expat

from hvpsbridge.host.psrp.replies import FRAGMENT

FOLDER = Path(__file__).with_name("windows")
# Tag with prefix, names of attributes in order, and what is within; equal neighbours count once.
Layout: TypeAlias = tuple[str, tuple[str, ...], tuple["Layout", ...]]
# Not in every recording, and only with a name.
_OPTIONAL = frozenset({"p:ActivityId", "rsp:Name"})


def layout_of(text: str | bytes) -> Layout:
    """The layout of an XML document. What real hosts leave out sometimes is left out always."""
    stack: list[tuple[str, tuple[str, ...], list[Layout]]] = [("", (), [])]

    def start(tag: str, attributes: list[str]) -> None:
        stack.append((tag, tuple(attributes[::2]), []))

    def end(tag: str) -> None:
        _, names, inner = stack.pop()
        found: Layout = (tag, names, tuple(inner))
        above = stack[-1][2]
        if tag not in _OPTIONAL and (not above or above[-1] != found):
            above.append(found)

    parser = expat.ParserCreate()
    parser.ordered_attributes = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.Parse(text, True)
    return stack[0][2][0]


def recorded(name: str) -> str:
    """The text of a file in ``windows/``, without the line that says where it is from."""
    return (FOLDER / f"{name}.xml").read_text().partition("\n")[2].strip()


def filled(name: str, **values: str) -> bytes:
    """A recorded layout with values for its words, as a host would send it."""
    text = recorded(name)
    for word, value in values.items():
        text = text.replace(f"@{word.upper()}@", value)
    while "@NEW@" in text:
        text = text.replace("@NEW@", str(uuid.uuid4()).upper(), 1)
    return text.encode()


def streams(fragments: Sequence[bytes], command_id: str = "") -> str:
    """Fragments as the streams of a reply, of a command or of the shell."""
    owner = f' CommandId="{command_id}"' if command_id else ""
    return "".join(
        f'<rsp:Stream Name="stdout"{owner}>{base64.b64encode(one).decode()}</rsp:Stream>' for one in fragments
    )


def message(kind: int, clixml: str, pool_id: str, pipeline_id: str = "", *, mark: bool = True) -> bytes:
    """A PSRP message to the client, with the byte order mark that Windows puts before CLIXML."""
    ids = (uuid.UUID(pool_id).bytes_le, uuid.UUID(pipeline_id or str(uuid.UUID(int=0))).bytes_le)
    return struct.pack("<II16s16s", 1, kind, *ids) + (b"\xef\xbb\xbf" if mark else b"") + clixml.encode()


def fragments(number: int, whole: bytes, size: int = 32768) -> list[bytes]:
    """A message in fragments of at most ``size`` bytes with their headers, as Windows cuts it."""
    room = size - FRAGMENT.size
    parts = [whole[at : at + room] for at in range(0, len(whole), room)]
    return [
        FRAGMENT.pack(number, index, (index == 0) | (index == len(parts) - 1) << 1, len(part)) + part
        for index, part in enumerate(parts)
    ]
