"""Whatever a host sends is read or refused, within bounds of time and memory."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from xml.etree import ElementTree

from pypsrp.exceptions import WinRMError, WSManFaultError
from pypsrp.messages import MessageType
from pypsrp.powershell import PowerShell
from pypsrp.wsman import WSMan, WSManAction

from hvpsbridge.contract.readings import BlockMessage
from hvpsbridge.contract.results import CheckpointInfo
from hvpsbridge.errors import HostError
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.wire import BlockError, ChunkDigest, encode_block
from hvpsbridge.host.binding import BindingError, bind_result
from hvpsbridge.host.connection import Authentication, HostConnection
from hvpsbridge.host.psrp.client import new_wsman
from hvpsbridge.host.psrp.errors import is_operation_timeout
from hvpsbridge.host.psrp.http import Body, HttpConnection
from hvpsbridge.host.psrp.pipeline import Pipeline
from hvpsbridge.host.psrp.pool import BoundedPool
from hvpsbridge.host.psrp.raw_connection import _decrypted
from hvpsbridge.host.psrp.replies import Assembler, BrokenStream, UnknownReply, check_relation, ends_command
from hvpsbridge.host.psrp.safe_xml import UnusableReply, check_xml
from hvpsbridge.host.psrp.shells import list_shells
from hvpsbridge.receiver.stream import BlockStream
from hvpsbridge.secret import Secret
from tests.fuzzing import Target, at_length, briefly
from tests.host.replies import OUTPUT, STATE, VERBOSE, block_clixml, fragments, message, reply, state_clixml

CONNECTION = HostConnection(
    name="hv",
    address="http://127.0.0.1:1",
    user="u",
    password=Secret("p"),
    auth=Authentication.BASIC,
)
CHECKPOINT = (
    b'<Obj RefId="0"><TN RefId="0"><T>Hvps.CheckpointInfo</T><T>System.Object</T></TN><MS>'
    b'<S N="VmId">0b6f3c4e-0000-4000-8000-00000000abcd</S>'
    b'<S N="CheckpointId">0b6f3c4e-0000-4000-8000-00000000abcd</S>'
    b'<S N="Name">web_x005F_01 _xD83D_</S><S N="Kind">recovery</S>'
    b'<S N="Created">2026-03-01T02:00:00.1234567Z</S><Nil N="ParentId"/>'
    b'<Obj N="DiskPaths" RefId="1"><TN RefId="1"><T>System.Object[]</T><T>System.Array</T></TN>'
    b"<LST><S>C:\\a.vhdx</S><S>C:\\b.vhdx</S></LST></Obj></MS></Obj>"
)
ERROR = (
    b'<Obj RefId="0"><TN RefId="0"><T>System.Management.Automation.ErrorRecord</T></TN>'
    b"<ToString>it failed</ToString><MS>"
    b'<Obj N="Exception" RefId="1"><MS><S N="Message">it failed native=0x80070020</S></MS></Obj>'
    b'<Nil N="TargetObject"/><S N="FullyQualifiedErrorId">Hvps.VmBusy,x</S><Nil N="InvocationInfo"/>'
    b'<I32 N="ErrorCategory_Category">19</I32><S N="ErrorCategory_Activity">a</S>'
    b'<S N="ErrorCategory_Reason">r</S><S N="ErrorCategory_TargetName">n</S>'
    b'<S N="ErrorCategory_TargetType">t</S><S N="ErrorCategory_Message">m</S>'
    b'<B N="SerializeExtendedInfo">false</B></MS></Obj>'
)
FAILED = b'<Obj RefId="0"><MS><I32 N="PipelineState">5</I32>' + (
    b'<Obj N="ExceptionAsErrorRecord" RefId="1">' + ERROR[ERROR.index(b"<TN") :] + b"</MS></Obj>"
)
FAULT = (
    b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><s:Fault><s:Code>'
    b"<s:Value>s:Receiver</s:Value><s:Subcode><s:Value>w:TimedOut</s:Value></s:Subcode></s:Code>"
    b'<s:Reason><s:Text xml:lang="en">late</s:Text></s:Reason><s:Detail>'
    b'<f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="2150858793"'
    b' Machine="hv"><f:Message>late</f:Message></f:WSManFault></s:Detail></s:Fault></s:Body></s:Envelope>'
)
SHELLS = (
    b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
    b' xmlns:wsa="http://schemas.xmlsoap.org/ws/2004/08/addressing"><s:Header>'
    b"<wsa:RelatesTo>uuid:A</wsa:RelatesTo></s:Header><s:Body>"
    b'<n:EnumerateResponse xmlns:n="http://schemas.xmlsoap.org/ws/2004/09/enumeration">'
    b'<w:Items xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd">'
    b'<r:Shell xmlns:r="http://schemas.microsoft.com/wbem/wsman/1/windows/shell">'
    b"<r:ShellId>X</r:ShellId><r:Name>hvps</r:Name><r:ShellInactivity>P1DT2H3M4.5S</r:ShellInactivity>"
    b"</r:Shell></w:Items></n:EnumerateResponse></s:Body></s:Envelope>"
)


@cache
def unconnected() -> WSMan:
    return new_wsman(CONNECTION)


def pipeline() -> Pipeline:
    """A pipeline that was started, without a host."""
    made = object.__new__(Pipeline)
    pool = BoundedPool(unconnected())
    made.client = SimpleNamespace(host="hv", pool=pool)  # type: ignore[assignment]
    made._operation = "test"
    made._shell = PowerShell(pool)
    return made


def read_messages(data: bytes) -> None:
    made = pipeline()
    try:
        made.take_fragments(data)
    finally:
        for result in (CheckpointInfo, BlockMessage):
            for item in made.take_output():
                bind_result(result, item.type_names, item.properties)
    if problem := made.error():
        problem.describe()


def one_message(data: bytes) -> None:
    """``data`` is a message; its fragments are right."""
    read_messages(b"".join(fragments(1, data)))


def read_blocks(data: bytes) -> None:
    body = Body(b" " * 64 + data + b" ", 64, 64 + len(data))
    check_relation(body, b"uuid:A")
    ends_command(body, b"uuid:A")
    Assembler().read(body)


def decode(data: bytes) -> None:
    stream = BlockStream(1 << 20, ChunkGrid(64 * 1024), block_bytes=64 * 1024, want_chunk_digests=True)
    stream.request([Extent(0, 40), Extent(65536, 512)])
    stream.feed(data)


class Bytes:
    """A socket from which ``data`` and then its end are read."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def settimeout(self, seconds: float) -> None:
        pass

    def sendall(self, data: bytes) -> None:
        pass

    def recv_into(self, view: memoryview) -> int:
        piece, self._data = self._data[: len(view)], self._data[len(view) :]
        view[: len(piece)] = piece
        return len(piece)


def read_http(data: bytes) -> None:
    http = HttpConnection(Bytes(data), 5)  # type: ignore[arg-type]
    http.send(b"POST / HTTP/1.1\r\n", b"")
    http.receive(5)


def read_envelope(data: bytes) -> None:
    check_xml(data)
    wsman = unconnected()
    wsman.transport.send = lambda *args, **options: data  # type: ignore[method-assign]
    wsman._create_header = lambda *args, **options: (  # type: ignore[method-assign]
        "A",
        ElementTree.Element("header"),
    )
    wsman.receive("uri", None)
    WSMan.invoke(wsman, WSManAction.RECEIVE, "uri", None)


def read_shells(data: bytes) -> None:
    check_xml(data)
    wsman = unconnected()
    body = ElementTree.fromstring(data).find("{http://www.w3.org/2003/05/soap-envelope}Body")
    wsman.enumerate = lambda *args, **options: body  # type: ignore[method-assign]
    if body is not None:
        list_shells(wsman)


def decrypt(data: bytes) -> None:
    context = SimpleNamespace(unwrap_winrm=lambda header, sealed: sealed)
    encryption = SimpleNamespace(context=context, unwrap_message=_unwrap(context))
    _decrypted(encryption, b'multipart/encrypted;boundary="Encrypted Boundary"', Body(data))  # type: ignore[arg-type]


def _unwrap(context: object) -> object:
    from pypsrp.encryption import WinRMEncryption

    return WinRMEncryption(context, WinRMEncryption.SPNEGO).unwrap_message


SEALED = (
    b"--Encrypted Boundary\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n"
    b"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=5\r\n--Encrypted Boundary\r\n"
    b"\tContent-Type: application/octet-stream\r\n\x04\x00\x00\x00abcdhello--Encrypted Boundary--\r\n"
)
BLOCK = encode_block(
    0,
    0,
    [(Extent(0, 40), b"ab" * 20), (Extent(65536, 512), None)],
    last=True,
    deflate=True,
    chunk_digests=[ChunkDigest(0, bytes(32)), ChunkDigest(1, bytes(32))],
)
MESSAGES = (
    message(OUTPUT, CHECKPOINT),
    message(OUTPUT, block_clixml(BLOCK)),
    message(OUTPUT, b"<S>text</S>"),
    message(MessageType.ERROR_RECORD, ERROR),
    message(STATE, FAILED),
    message(STATE, state_clixml(4)),
    message(VERBOSE, b'<Obj RefId="0"/>'),
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\n"

TARGETS = [
    Target(
        name="psrp-fragments",
        samples=tuple(
            b"".join(piece for number, each in enumerate(MESSAGES, 1) for piece in fragments(number, each, n))
            for n in (100, 5000)
        ),
        parse=read_messages,
        refuses=(HostError, BindingError),
    ),
    Target(name="psrp-messages", samples=MESSAGES, parse=one_message, refuses=(HostError, BindingError)),
    Target(
        name="receive-replies",
        samples=(reply(fragments(1, MESSAGES[1]), "uuid:A"), reply([], "uuid:A", done=True)),
        parse=read_blocks,
        refuses=(BrokenStream, UnknownReply),
    ),
    Target(name="wire-blocks", samples=(BLOCK,), parse=decode, refuses=(BlockError,)),
    Target(
        name="http-answers",
        samples=(
            HEAD + b"Content-Length: 5\r\n\r\nhello",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\n",
            b"HTTP/1.1 401 X\r\nWWW-Authenticate: NTLM\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        ),
        parse=read_http,
        refuses=(OSError,),
    ),
    Target(
        name="wsman-envelopes",
        samples=(reply(fragments(1, MESSAGES[0]), "uuid:A"), SHELLS, FAULT),
        parse=read_envelope,
        refuses=(WinRMError, ElementTree.ParseError),
    ),
    Target(
        name="wsman-faults",
        samples=(FAULT,),
        parse=is_operation_timeout,
        refuses=(WSManFaultError, UnusableReply, ElementTree.ParseError),
    ),
    Target(
        name="wsman-shells",
        samples=(SHELLS,),
        parse=read_shells,
        refuses=(UnusableReply, ElementTree.ParseError),
    ),
    Target(
        name="encrypted-replies",
        samples=(SEALED,),
        parse=decrypt,
        refuses=(WinRMError,),
    ),
]


test_mutated_input_is_read_or_refused = briefly(TARGETS, examples=100)
test_a_million_mutated_inputs_are_read_or_refused = at_length(TARGETS)
