"""The Receive of a command, built once, and what any other layout of its reply holds."""

from __future__ import annotations

import base64
import uuid
from xml.etree import ElementTree

from pypsrp.wsman import NAMESPACES, OptionSet, WSManAction

from hvpsbridge.errors import InternalError
from hvpsbridge.host.psrp.client import WSManClient

# Hexadecimal digits at the end of a message id that count; those before them are random, once a command.
_COUNTED_DIGITS = 12


class ReceiveRequest:
    """The Receive of one command; only the message id differs from one to the next."""

    def __init__(self, client: WSManClient, command_id: str, timeout_seconds: int) -> None:
        wsman, shell = client.wsman, client.pool.shell
        options = OptionSet()
        options.add_option("WSMAN_CMDSHELL_OPTION_KEEPALIVE", "True")
        message_id, header = wsman._create_header(
            WSManAction.RECEIVE, shell.resource_uri, options, shell._selector_set, timeout_seconds
        )
        envelope = ElementTree.Element(f"{{{NAMESPACES['s']}}}Envelope")
        envelope.append(header)
        body = ElementTree.SubElement(envelope, f"{{{NAMESPACES['s']}}}Body")
        receive = ElementTree.SubElement(body, f"{{{NAMESPACES['rsp']}}}Receive")
        stream = ElementTree.SubElement(receive, f"{{{NAMESPACES['rsp']}}}DesiredStream")
        stream.attrib["CommandId"] = command_id
        stream.text = "stdout"
        text: bytes = ElementTree.tostring(envelope, encoding="utf-8", method="xml")
        self._before, found, self._after = text.partition(message_id.encode())
        if not found:
            raise InternalError("a WSMan header without its message id")
        self._series = str(uuid.uuid4()).upper().encode()[:-_COUNTED_DIGITS]
        self._count = 0

    def text(self) -> tuple[bytes, bytes]:
        """A fresh message id, as the reply will relate to it, and the request that carries it."""
        self._count += 1
        message_id = b"%s%012X" % (self._series, self._count)
        return b"uuid:" + message_id, self._before + message_id + self._after


def stream_fragments(body: bytes) -> bytes:
    """Decoded stream contents of a reply of any layout, as pypsrp itself takes them out."""
    reply = ElementTree.fromstring(body)  # noqa: S314 - pypsrp reads all other replies with it too
    path = "s:Body/rsp:ReceiveResponse/rsp:Stream"
    return b"".join(base64.b64decode(found.text) for found in reply.findall(path, NAMESPACES) if found.text)
