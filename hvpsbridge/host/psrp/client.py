"""A WSMan client of pypsrp, for one thread.

pypsrp repeats a Receive by itself after a read timeout. If the lost reply ended an object, the object would
be lost without an error. Here a read timeout ends the session instead, and ``host.retry`` decides by the
effect of the operation.

The private names of pypsrp that this package uses are checked at import (:data:`PRIVATE_NAMES`), so that an
update of pypsrp fails at start and not during a backup.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Any

import requests
from pypsrp.encryption import WinRMEncryption
from pypsrp.exceptions import WinRMTransportError
from pypsrp.powershell import Fragmenter, PowerShell, RunspacePool
from pypsrp.serializer import Serializer
from pypsrp.wsman import WSMan, WSManAction, _TransportHTTP

from hvpsbridge.errors import InternalError
from hvpsbridge.host.connection import HostConnection, Recorder
from hvpsbridge.host.psrp.kerberos import seconds_left
from hvpsbridge.host.psrp.raw_connection import ConnectionUnavailable, RawConnection
from hvpsbridge.host.psrp.safe_xml import check_xml, fault_text
from hvpsbridge.host.psrp.transport import OK, UNAUTHORIZED, Timeout, Transport

logger = logging.getLogger(__name__)

# Below warnings pypsrp logs whole messages with script text, parameters and disk contents. They must not show
# at any log level. What pypsrp warns about is raised as an error anyway.
for _library in ("pypsrp", "spnego"):
    logging.getLogger(_library).setLevel(logging.CRITICAL)

# WinRM's default since 2012; replies grow with it (docs/hyperv-facts.md#winrm-envelope).
ENVELOPE_BYTES = 512_000

# http.sys closes a connection that was idle for 120 s, and the client notices too late.
CONNECTION_STALE_SECONDS = 60.0
# A security context ends with its Kerberos ticket, and later replies cannot be decrypted. The context is
# renewed when it has this long left, which is longer than any message takes. If the ticket is still the old
# one, the next attempt is made after the pause.
TICKET_RENEW_SECONDS = 60.0
TICKET_RENEW_PAUSE_SECONDS = 10.0

# Names of pypsrp beyond its documented interface.
PRIVATE_NAMES: tuple[tuple[type, str], ...] = (
    (RunspacePool, "_parse_responses"),
    (Serializer, "_deserialize_string"),
    (PowerShell, "poll_invoke"),
    (PowerShell, "begin_invoke"),
    (WSMan, "_create_header"),
    (WSMan, "_parse_wsman_fault"),
    (WSMan, "invoke"),
    (WinRMEncryption, "unwrap_message"),
    (WinRMEncryption, "wrap_message"),
    (Fragmenter, "fragment"),
    (_TransportHTTP, "_build_session"),
    (_TransportHTTP, "_send_request"),
)
for _owner, _name in PRIVATE_NAMES:
    if not hasattr(_owner, _name):
        raise InternalError(f"this version of pypsrp has no {_owner.__name__}.{_name}")


class _QuietWSMan(WSMan):
    """pypsrp's WSMan without its repeated Receive."""

    recorder: Recorder | None = None

    def receive(
        self,
        resource_uri: str,
        resource: Any,
        option_set: Any = None,
        selector_set: Any = None,
        timeout: int | None = None,
    ) -> Any:
        reply = self.invoke(WSManAction.RECEIVE, resource_uri, resource, option_set, selector_set, timeout)
        return reply.find("{http://www.w3.org/2003/05/soap-envelope}Body")


def new_wsman(connection: HostConnection) -> WSMan:
    """A WSMan client for ``connection``, not connected yet."""
    endpoint = connection.endpoint
    options: dict[str, Any] = {
        "server": endpoint.server,
        "port": endpoint.port,
        "path": endpoint.path,
        "ssl": endpoint.tls,
        "auth": str(connection.auth),
        "username": connection.user,
        "password": None if connection.password is None else connection.password.reveal(),
        "cert_validation": _authorities(connection),
        "encryption": "never" if connection.auth in ("basic", "certificate") else "auto",
        # Those of the environment; ``dialing`` uses the one that is configured.
        "no_proxy": True,
        "read_timeout": max(2, round(connection.read_timeout)),
        "connection_timeout": max(1, round(connection.connect_timeout)),
    }
    wsman = _QuietWSMan(
        max_envelope_size=ENVELOPE_BYTES,
        operation_timeout=max(1, round(connection.operation_timeout)),
        **options,
    )
    wsman.transport = Transport(connection, **options)
    wsman.recorder = connection.recorder
    return wsman


def _authorities(connection: HostConnection) -> bool | str:
    """Whose signature the host's certificate needs, as requests has it: a path, the known CAs, or none's."""
    if not connection.checks_authority:
        return False
    return True if connection.ca is None else str(connection.ca)


class WSManClient:
    """A WSMan connection to a shell, and pypsrp's runspace pool over it. For one thread.

    pypsrp's first message opens and authenticates the connection. Later ones are sent and received here, on
    the same connection, because requests needs more time for each than everything else.

    Attributes:
        host: name of the host.
        received_bytes: bytes of reply bodies so far, without TLS and message encryption.
    """

    def __init__(self, host: str, wsman: WSMan, pool: RunspacePool) -> None:
        self.host = host
        self.wsman = wsman
        self.pool = pool
        self.received_bytes = 0
        self._used = self._begun = time.monotonic()
        self._send = wsman.transport.send
        self._opened = False
        self._raw: RawConnection | None = None
        self._may_use_raw = True
        wsman.transport.send = self._exchange  # type: ignore[method-assign]  # of this one connection

    def _exchange(self, message: bytes, *, timeout: Timeout = None, **options: Any) -> bytes:
        if isinstance(timeout, (int, float)):
            # pypsrp gives a host two seconds more than it may hold a Receive: too few for a busy one.
            timeout += max(0, self.wsman.transport.read_timeout - self.wsman.operation_timeout)
        if time.monotonic() - self._used > CONNECTION_STALE_SECONDS or self.ends_soon:
            self.start_over()
        reply = self._send_raw(message, timeout) if self._opened else None
        if reply is None:
            begun = time.monotonic()
            reply = self._send(message, timeout=timeout, **options)
            recorder: Recorder | None = getattr(self.wsman, "recorder", None)
            if recorder is not None:
                recorder.exchange(message, reply, time.monotonic() - begun, OK)
            self._opened = True
        self._used = time.monotonic()
        self.received_bytes += len(reply)
        return reply

    def _send_raw(self, message: bytes, timeout: Timeout) -> bytes | None:
        """The reply to a message on the raw connection; None when pypsrp must send it.

        Raises:
            WinRMTransportError: the host answered with an error, as pypsrp raises it.
            requests.ReadTimeout: no reply in time, likewise.
        """
        try:
            raw = self._raw = self._raw or self._new_raw()
        except ConnectionUnavailable as err:
            logger.debug("%s: left to pypsrp: %s", self.host, err)
            return None
        if not raw.connected:
            # The host closes idle connections, and all of them when it restarts.
            self.start_over()
            return None
        wait = timeout[1] if isinstance(timeout, tuple) else timeout
        try:
            raw.send(message)
            reply = raw.receive(self.wsman.transport.read_timeout if wait is None else wait)
            if reply is None:
                raise requests.ReadTimeout(f"no reply from {self.host}")
        except BaseException:
            # The next message must not receive the reply to this one.
            self.start_over()
            raise
        if reply.status == UNAUTHORIZED:
            self.authenticate_again(raw)
            return None
        soap = bytes(reply.body)
        if not reply.keeps_alive or (reply.status != OK and not soap):
            # An error without content may have been made up on the way; the real reply may still come.
            self.start_over()
        if reply.status != OK:
            raise WinRMTransportError("http", reply.status, fault_text(soap))
        check_xml(soap)
        return soap

    def _new_raw(self) -> RawConnection:
        if not self._may_use_raw:
            raise ConnectionUnavailable("the host wants every message authenticated")
        return RawConnection(self.wsman, self.wsman.transport.read_timeout)

    def take_raw(self) -> RawConnection:
        """The connection of the last message; it belongs to the caller until :meth:`start_over`.

        Raises:
            ConnectionUnavailable: it cannot be taken.
        """
        raw = self._raw or self._new_raw()
        self._raw, self._opened = None, False
        return raw

    def authenticate_again(self, raw: RawConnection) -> None:
        """Start over because the host asked for authentication on ``raw``.

        The host did not execute the message, so nothing is lost, and pypsrp authenticates again. A host that
        asks on the first message of an authenticated connection will ask on each, so pypsrp then sends all.
        """
        self._may_use_raw = self._may_use_raw and raw.replies > 1
        raw.close()
        self.start_over()

    @property
    def ends_soon(self) -> bool:
        """Whether to replace the connection's security context before more is sent."""
        encryption = self.wsman.transport.encryption
        left = None if encryption is None else seconds_left(encryption.context)
        if left is None or left > TICKET_RENEW_SECONDS:
            return False
        return left <= 0 or time.monotonic() - self._begun > TICKET_RENEW_PAUSE_SECONDS

    def start_over(self) -> None:
        """Close the connection and drop its security context; the next message creates both.

        pypsrp alone would encrypt a message with the old context and send it over a new connection.
        """
        if self._raw is not None:
            self._raw.close()
        self._raw, self._opened = None, False
        transport = self.wsman.transport
        transport.close()
        transport.session = None
        transport.encryption = None
        self._begun = time.monotonic()

    def close(self) -> None:
        """Close the connection; the shell stays."""
        raw = self._raw
        # Another thread's message ends by itself; its socket must not be closed meanwhile.
        if raw is not None and not raw.waiting:
            raw.close()
            # Its buffers would live until the garbage collector finds this client.
            self._raw = None
        with suppress(Exception):
            self.wsman.close()
