"""The listening socket: a thread per connection, optional TLS, and removal of idle shells."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from threading import Event, Lock, Thread

from hvpsbridge.sim.wsman.auth import Authenticator
from hvpsbridge.sim.wsman.connection_faults import ConnectionFaults, Machine
from hvpsbridge.sim.wsman.http import Connection
from hvpsbridge.sim.wsman.service import Service
from hvpsbridge.sim.wsman.tls import ServerTls

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
BACKLOG = 128
JANITOR_SECONDS = 1.0
HANDSHAKE_SECONDS = 30.0


class Listener:
    """Accepts connections on the loopback interface and serves them until stopped.

    Args:
        service: answers requests.
        authenticators: creates the authenticator of a new connection.
        address: loopback address to listen on, IPv4 or IPv6.
        port: TCP port; 0 for a free one.
        tls: certificates, for HTTPS.
        machine: the host, for faults that affect it as a whole.
    """

    def __init__(
        self,
        service: Service,
        authenticators: Callable[[socket.socket], Authenticator],
        *,
        address: str = LOOPBACK,
        port: int = 0,
        tls: ServerTls | None = None,
        machine: Machine,
    ) -> None:
        self._service = service
        self._authenticators = authenticators
        self._tls = tls
        self._address = address
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        # Bound but never listening: reserves the port while the host is down.
        self._reserved = socket.socket(self._family)
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind((address, port))
        self._port = int(self._reserved.getsockname()[1])
        self._socket = self._listen()
        self.connection_faults = ConnectionFaults(service.faults, service, machine)
        self._stopping = Event()
        self._lock = Lock()
        self._open: set[socket.socket] = set()
        self.connections_accepted = 0
        # How often the host went down. A thread that boots it gives up if that has changed.
        self._boots = 0

    @property
    def port(self) -> int:
        """TCP port."""
        return self._port

    @property
    def tls(self) -> bool:
        """Whether HTTPS is used."""
        return self._tls is not None

    @property
    def url(self) -> str:
        """URL without a path."""
        server = f"[{self._address}]" if ":" in self._address else self._address
        return f"{'https' if self.tls else 'http'}://{server}:{self.port}"

    def _listen(self) -> socket.socket:
        return socket.create_server((self._address, self._port), family=self._family, backlog=BACKLOG)

    def start(self) -> None:
        """Start accepting connections."""
        Thread(target=self._accept, name=f"wsman-{self.port}", daemon=True).start()
        Thread(target=self._tidy, name=f"wsman-janitor-{self.port}", daemon=True).start()

    def stop(self) -> None:
        """Close the listening socket and all connections. Shells remain until the service is closed."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._reserved.close()
        self.cut_all()

    def cut_all(self) -> None:
        """Break all connections, as a network failure does."""
        with self._lock:
            connections = tuple(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def go_down(self, down_seconds: float, came_up: Callable[[], None]) -> None:
        """Lose all shells and connections, and refuse connections for a while; then call ``came_up``."""
        self.power_off()
        self._boot(down_seconds, came_up)

    def power_off(self) -> None:
        """Lose all shells and connections, and refuse connections."""
        with self._lock:
            self._boots += 1
            listening, self._socket = self._socket, socket.socket()
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for shell in self._service.shells.all():
            self._service.shells.kill(shell)
        self.cut_all()

    def power_on(self) -> None:
        """Accept connections again, at the same address."""
        self._boot(0.0, lambda: None)

    def _boot(self, down_seconds: float, came_up: Callable[[], None]) -> None:
        arguments = (self._boots, down_seconds, came_up)
        Thread(target=self._come_up, args=arguments, name="wsman-boot", daemon=True).start()

    def _come_up(self, boots: int, down_seconds: float, came_up: Callable[[], None]) -> None:
        if self._stopping.wait(down_seconds):
            return
        came_up()
        with self._lock:
            if self._boots != boots:
                return  # it went down again meanwhile
            self._socket = self._listen()
        if self._stopping.is_set():
            self._socket.close()
        self._accept()

    def _accept(self) -> None:
        listening = self._socket
        while not self._stopping.is_set():
            try:
                accepted, address = listening.accept()
            except OSError:
                return
            self.connections_accepted += 1
            Thread(
                target=self._serve, args=(accepted, address[0]), name=f"wsman-{address[1]}", daemon=True
            ).start()

    def _serve(self, accepted: socket.socket, address: str) -> None:
        sock = accepted
        try:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                accepted.settimeout(HANDSHAKE_SECONDS)
                sock = self._tls.context().wrap_socket(accepted, server_side=True)
        except OSError as err:
            logger.debug("handshake with %s failed: %s", address, err)
            accepted.close()
            return
        with self._lock:
            self._open.add(sock)
        try:
            authenticator = self._authenticators(sock)
            Connection(sock, address, self._service, authenticator, self.connection_faults).serve()
        finally:
            with self._lock:
                self._open.discard(sock)

    def _tidy(self) -> None:
        while not self._stopping.wait(JANITOR_SECONDS):
            self._service.shells.remove_idle()
