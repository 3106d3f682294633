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
        of_shell: whether the shell provider raises it, rather than the service.
    """

    def __init__(self, code: Code, text: str, *, of_shell: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.of_shell = of_shell


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A WSMan request. ``body`` is the first element of the SOAP body, if there is one."""

    action: str
    message_id: str
    to: str
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
        to=(header.findtext(f"{{{names.ADDRESSING}}}To") or "").strip(),
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


_TAIL = b"</s:Body></s:Envelope>"
# Space for head, tail and command state of a reply, rounded up.
REPLY_OVERHEAD_BYTES = 2048


Parts = Sequence[bytes | memoryview]


def reply(request: Request, body: Parts) -> Parts:
    """Envelope of a reply."""
    head = _head(names.declarations(request.action), f"{request.action}Response", request.message_id)
    return (head, *body, _TAIL)


def _head(declared: str, action: str, relates_to: str) -> bytes:
    """Everything before the content of the body (docs/hyperv-facts.md#wsman-replies)."""
    text = (
        f'<s:Envelope xml:lang="en-US" {declared}><s:Header><a:Action>{action}</a:Action>'
        f"<a:MessageID>uuid:{_new_id()}</a:MessageID><p:ActivityId>{_new_id()}</p:ActivityId>"
        f"<a:To>{names.ANONYMOUS}</a:To><a:RelatesTo>{escape(relates_to)}</a:RelatesTo></s:Header><s:Body>"
    )
    return text.encode()


def _new_id() -> str:
    return str(uuid.uuid4()).upper()


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
    specification = names.ADDRESSING if subcode.startswith("a:") else names.WSMAN_FAULTS.rpartition("/")[0]
    detail = names.DETAILS.get(fault.code, "")
    attributes = f'Code="{int(fault.code)}" Machine="{escape(machine)}"'
    message = text
    if fault.of_shell:
        message = (
            '<f:ProviderFault provider="Shell provider" path="%systemroot%\\system32\\WsmSvc.dll">'
            f'<f:WSManFault xmlns:f="{names.FAULT}" {attributes}><f:Message>{text}</f:Message></f:WSManFault>'
            "</f:ProviderFault>"
        )
    fault_text = (
        f"<s:Fault><s:Code><s:Value>s:{side}</s:Value><s:Subcode><s:Value>{subcode}</s:Value></s:Subcode>"
        f'</s:Code><s:Reason><s:Text xml:lang="en-US">{text}</s:Text></s:Reason><s:Detail>'
        + (f"<w:FaultDetail>{detail}</w:FaultDetail>" if detail else "")
        + f'<f:WSManFault xmlns:f="{names.FAULT}" {attributes}><f:Message>{message}</f:Message>'
        "</f:WSManFault></s:Detail></s:Fault>"
    )
    return _head(names.declarations(""), f"{specification}/fault", message_id), fault_text.encode(), _TAIL
