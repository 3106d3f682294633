"""Replies as Windows sends them, built piece by piece, for tests and benchmarks."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Sequence
from uuid import UUID, uuid4

OUTPUT = 0x00041004
STATE = 0x00041006
VERBOSE = 0x00041009

_SOAP = (
    '<s:Envelope xml:lang="en-US" xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
    ' xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"'
    ' xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"'
    ' xmlns:rsp="http://schemas.microsoft.com/wbem/wsman/1/windows/shell"'
    ' xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"><s:Header>'
    "<a:Action>http://schemas.microsoft.com/wbem/wsman/1/windows/shell/ReceiveResponse</a:Action>"
    "<a:MessageID>uuid:{own}</a:MessageID>"
    "<a:To>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:To>"
    "<a:RelatesTo>{relates}</a:RelatesTo></s:Header><s:Body><rsp:ReceiveResponse>"
)
_STATE = (
    '<rsp:CommandState CommandId="{command}"'
    ' State="http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/{word}"/>'
)
_SOAP_END = "</rsp:ReceiveResponse></s:Body></s:Envelope>"


def message(kind: int, data: bytes) -> bytes:
    """A PSRP message to the client; the ids of pool and pipeline do not matter."""
    return struct.pack("<II", 1, kind) + UUID(int=1).bytes_le + UUID(int=2).bytes_le + data


def block_clixml(block: bytes) -> bytes:
    """An emitted ``Hvps.BlockMessage`` as PowerShell serializes it."""
    return (
        b'<Obj RefId="0"><TN RefId="0"><T>Hvps.BlockMessage</T>'
        b"<T>System.Management.Automation.PSCustomObject</T><T>System.Object</T></TN>"
        b'<MS><BA N="Block">' + base64.b64encode(block) + b"</BA></MS></Obj>"
    )


def state_clixml(state: int) -> bytes:
    return b'<Obj RefId="0"><MS><I32 N="PipelineState">%d</I32></MS></Obj>' % state


def fragments(number: int, data: bytes, size: int = 32768 - 21) -> list[bytes]:
    """A message cut into fragments."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return [
        struct.pack(">QQBI", number, index, (index == 0) | (index == len(pieces) - 1) << 1, len(piece))
        + piece
        for index, piece in enumerate(pieces)
    ]


def reply(
    streams: Iterable[bytes], relates_to: str = "uuid:A", command: str = "C", *, done: bool = False
) -> bytes:
    """A ReceiveResponse with one stream element per item."""
    body = "".join(
        f'<rsp:Stream Name="stdout" CommandId="{command}">{base64.b64encode(item).decode()}</rsp:Stream>'
        for item in streams
    )
    word = "Done" if done else "Running"
    return (
        _SOAP.format(own=uuid4(), relates=relates_to)
        + body
        + _STATE.format(command=command, word=word)
        + _SOAP_END
    ).encode()


def replies_of(blocks: Sequence[bytes], fragments_per_reply: int, relates_to: str = "uuid:A") -> list[bytes]:
    """Blocks as a host sends them: fragments of 32 KiB, several in a reply."""
    cut = [
        piece
        for n, block in enumerate(blocks, 1)
        for piece in fragments(n, message(OUTPUT, block_clixml(block)))
    ]
    return [
        reply(cut[at : at + fragments_per_reply], relates_to)
        for at in range(0, len(cut), fragments_per_reply)
    ]
