"""Parsed requests, and the bytes of replies.

A reply is a sequence of parts, so bulk data goes from the engine's pipe to the socket without being copied.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from hvpsbridge.sim.wsman import names
from hvpsbridge.sim.wsman.names import Code

# MaxTimeoutms of winrm/config: maximum duration of a request (docs/hyperv-facts.md#winrm-timeouts).
MAX_TIMEOUT_SECONDS = 60.0
DEFAULT_ENVELOPE_BYTES = 512_000
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")


class Fault(Exception):
    """A request ends with a WSMan fault.

    Attributes:
        code: ``WSManFault`` code.
        text: message for the user.
    """

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A WSMan request. ``body`` is the first element of the SOAP body, if there is one."""

    action: str
    message_id: str
    resource_uri: str
    envelope_bytes: int
    timeout_seconds: float
    selectors: dict[str, str]
    options: dict[str, str]
    body: ElementTree.Element | None

    @property
    def shell_id(self) -> str:
        """The ``ShellId`` selector.

        Raises:
            Fault: there is none.
        """
        try:
            return self.selectors["ShellId"]
        except KeyError:
            raise Fault(Code.UNEXPECTED_SELECTORS, "The request names no shell.") from None


def parse_duration(text: str | None, default: float) -> float:
    """Seconds of an ISO 8601 duration such as ``PT20S``; ``default`` if it is missing or invalid."""
    match = _DURATION.fullmatch(text.strip()) if text else None
    if match is None:
        return default
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def parse_request(data: bytes) -> Request:
    """The request in ``data``.

    Raises:
        Fault: it is not a SOAP envelope.
    """
    try:
        # expat without external entities; requests are authenticated and limited in size.
        root = ElementTree.fromstring(data)  # noqa: S314
    except ElementTree.ParseError as err:
        raise Fault(Code.SCHEMA_VALIDATION, f"The request is not well-formed XML: {err}") from err
    header = root.find(f"{{{names.ENVELOPE}}}Header")
    body = root.find(f"{{{names.ENVELOPE}}}Body")
    if header is None or body is None:
        raise Fault(Code.SCHEMA_VALIDATION, "The request has no SOAP header or body.")
    envelope_bytes = header.findtext(f"{{{names.WSMAN}}}MaxEnvelopeSize")
    timeout = parse_duration(header.findtext(f"{{{names.WSMAN}}}OperationTimeout"), MAX_TIMEOUT_SECONDS)
    return Request(
        action=(header.findtext(f"{{{names.ADDRESSING}}}Action") or "").strip(),
        message_id=(header.findtext(f"{{{names.ADDRESSING}}}MessageID") or "").strip(),
        resource_uri=(header.findtext(f"{{{names.WSMAN}}}ResourceURI") or "").strip(),
        envelope_bytes=int(envelope_bytes) if envelope_bytes else DEFAULT_ENVELOPE_BYTES,
        timeout_seconds=min(timeout, MAX_TIMEOUT_SECONDS),
        selectors=_named(header.iterfind(f"{{{names.WSMAN}}}SelectorSet/{{{names.WSMAN}}}Selector")),
        options=_named(header.iterfind(f"{{{names.WSMAN}}}OptionSet/{{{names.WSMAN}}}Option")),
        body=next(iter(body), None),
    )


def compact(text: str) -> bytes:
    """Base64 without the white space that XML allows around it."""
    data = text.encode()
    return data if data.isalnum() else b"".join(data.split())


def _named(elements: Iterable[ElementTree.Element]) -> dict[str, str]:
    return {element.get("Name", ""): element.text or "" for element in elements}


_HEAD = (
    f'<s:Envelope xml:lang="en-US" xmlns:s="{names.ENVELOPE}" xmlns:a="{names.ADDRESSING}"'
    f' xmlns:x="{names.TRANSFER}" xmlns:n="{names.ENUMERATION}" xmlns:w="{names.WSMAN}"'
    f' xmlns:rsp="{names.SHELL}" xmlns:p="{names.WSMV}"><s:Header><a:Action>'
)
_TAIL = b"</s:Body></s:Envelope>"
# Space for head, tail and command state of a reply, rounded up.
REPLY_OVERHEAD_BYTES = 2048


Parts = Sequence[bytes | memoryview]


def reply(request: Request, body: Parts, action: str | None = None) -> Parts:
    """Envelope of a reply. The default action is that of the request plus ``Response``."""
    head = (
        f"{_HEAD}{action or request.action + 'Response'}</a:Action>"
        f"<a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID><p:SequenceId>1</p:SequenceId>"
        f"<a:To>{names.ANONYMOUS}</a:To><a:RelatesTo>{escape(request.message_id)}</a:RelatesTo>"
        "</s:Header><s:Body>"
    )
    return (head.encode(), *body, _TAIL)


def receive_body(stream_head: bytes, fragments: Parts, command_id: str | None, *, done: bool) -> Parts:
    """Body of a reply to a Receive: one ``rsp:Stream`` per fragment, and the state of an ended command."""
    parts: list[bytes | memoryview] = [b"<rsp:ReceiveResponse>"]
    for fragment in fragments:
        parts += (stream_head, fragment, b"</rsp:Stream>")
    if done and command_id is not None:
        state = (
            f'<rsp:CommandState CommandId="{command_id}" State="{names.COMMAND_DONE}">'
            "<rsp:ExitCode>0</rsp:ExitCode></rsp:CommandState>"
        )
        parts.append(state.encode())
    parts.append(b"</rsp:ReceiveResponse>")
    return parts


def stream_head(command_id: str | None) -> bytes:
    """Opening tag of a stream of a command, or of the shell itself."""
    tag = '<rsp:Stream Name="stdout"' + (f' CommandId="{command_id}"' if command_id else "") + ">"
    return tag.encode()


def fault_reply(message_id: str, fault: Fault, machine: str) -> Parts:
    """Envelope with a fault, to be sent with HTTP status 500."""
    text = escape(fault.text)
    subcode = names.SUBCODES.get(fault.code, "w:InternalError")
    side = "Receiver" if subcode in {"w:InternalError", "w:TimedOut"} else "Sender"
    fault_text = (
        f"{_HEAD}{names.WSMAN.rsplit('/', 1)[0]}/fault</a:Action>"
        f"<a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID>"
        f"<a:To>{names.ANONYMOUS}</a:To><a:RelatesTo>{escape(message_id)}</a:RelatesTo></s:Header><s:Body>"
        f"<s:Fault><s:Code><s:Value>s:{side}</s:Value><s:Subcode><s:Value>{subcode}</s:Value></s:Subcode>"
        f'</s:Code><s:Reason><s:Text xml:lang="en-US">{text}</s:Text></s:Reason><s:Detail>'
        f'<f:WSManFault xmlns:f="{names.FAULT}" Code="{int(fault.code)}" Machine="{escape(machine)}">'
        f"<f:Message>{text}</f:Message></f:WSManFault></s:Detail></s:Fault>"
    )
    return fault_text.encode(), _TAIL
