"""Requests of one command that are built once: only the message id changes, and what is sent.

pypsrp makes an XML tree of each request, and text of that.
"""

from __future__ import annotations

import binascii
import uuid
from xml.etree import ElementTree

from pypsrp.exceptions import WinRMError, WinRMTransportError
from pypsrp.wsman import NAMESPACES, OptionSet, WSMan, WSManAction

from hvpsbridge.errors import InternalError
from hvpsbridge.host.psrp.client import WSManClient
from hvpsbridge.host.psrp.http import Body
from hvpsbridge.host.psrp.replies import BrokenStream, check_relation

# Hexadecimal digits at the end of a message id that count up; those before are random, once per command.
_COUNTER_DIGITS = 12
_SHELL = NAMESPACES["rsp"]
# Stands where content goes.
_CONTENT = "0123456789"


class _Prepared:
    """The text of a request before and after its message id."""

    def __init__(
        self,
        client: WSManClient,
        action: str,
        resource: ElementTree.Element,
        options: OptionSet | None = None,
        timeout_seconds: int | None = None,
    ) -> None:
        wsman, shell = client.wsman, client.pool.shell
        message_id, header = wsman._create_header(
            action, shell.resource_uri, options, shell._selector_set, timeout_seconds
        )
        envelope = ElementTree.Element(f"{{{NAMESPACES['s']}}}Envelope")
        envelope.append(header)
        ElementTree.SubElement(envelope, f"{{{NAMESPACES['s']}}}Body").append(resource)
        text: bytes = ElementTree.tostring(envelope, encoding="utf-8", method="xml")
        self.before, found, self.after = text.partition(message_id.encode())
        if not found:
            raise InternalError("pypsrp created a WSMan header without its message id")
        self._series = str(uuid.uuid4()).upper().encode()[:-_COUNTER_DIGITS]
        self._count = 0

    def next_id(self) -> bytes:
        """A new message id."""
        self._count += 1
        return b"%s%012X" % (self._series, self._count)


class ReceiveRequest:
    """The Receive request of one command."""

    def __init__(self, client: WSManClient, command_id: str, timeout_seconds: int) -> None:
        receive = ElementTree.Element(f"{{{_SHELL}}}Receive")
        stream = ElementTree.SubElement(receive, f"{{{_SHELL}}}DesiredStream", CommandId=command_id)
        stream.text = "stdout"
        options = OptionSet()
        options.add_option("WSMAN_CMDSHELL_OPTION_KEEPALIVE", "True")
        self._text = _Prepared(client, WSManAction.RECEIVE, receive, options, timeout_seconds)

    def text(self) -> tuple[bytes, bytes]:
        """A new message id, as the reply will relate to it, and the request with it."""
        message_id = self._text.next_id()
        return b"uuid:" + message_id, self._text.before + message_id + self._text.after


class SendRequest:
    """The Send requests of one command."""

    def __init__(self, client: WSManClient, command_id: str) -> None:
        send = ElementTree.Element(f"{{{_SHELL}}}Send")
        stream = ElementTree.SubElement(send, f"{{{_SHELL}}}Stream", Name="stdin", CommandId=command_id)
        stream.text = _CONTENT
        self._client = client
        self._text = _Prepared(client, WSManAction.SEND, send)
        self._between, found, self._after = self._text.after.partition(_CONTENT.encode())
        if not found:
            raise InternalError("a Send request has no place for its content")

    def send(self, fragment: bytes) -> None:
        """Send one fragment, and wait until the host has taken it.

        Raises:
            WSManFaultError: the host refused it.
            WinRMError: the reply cannot be used.
            requests.RequestException: no reply.
        """
        message_id = self._text.next_id()
        content = binascii.b2a_base64(fragment, newline=False)
        text = b"".join((self._text.before, message_id, self._between, content, self._after))
        try:
            reply = self._client.wsman.transport.send(text)
        except WinRMTransportError as err:
            try:
                fault = WSMan._parse_wsman_fault(err.response_text)
            except ElementTree.ParseError:
                raise err from None
            raise fault from err
        try:
            check_relation(Body(reply), b"uuid:" + message_id)
        except BrokenStream as err:
            raise WinRMError(str(err)) from err
