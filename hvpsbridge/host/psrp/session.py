"""A shell on a host: one process there with several runspaces.

pypsrp allows one thread per WSMan object, because message encryption counts messages. So every thread that
uses the shell has its own ``WSManClient``, attached to the same shell id. PowerShell separates messages by
pipeline, so clients do not interfere.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from uuid import UUID

from pypsrp.complex_objects import RunspacePoolState
from pypsrp.exceptions import WSManFaultError
from pypsrp.powershell import RunspacePool
from pypsrp.wsman import SelectorSet

from hvpsbridge import stopping
from hvpsbridge.errors import HvpsError, OperationTimedOut, ProtocolViolation, SessionLost
from hvpsbridge.host.certificates import check_authorities
from hvpsbridge.host.client_certificates import check_client_certificate
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.psrp.client import WSManClient, new_wsman
from hvpsbridge.host.psrp.configuration import WinRmLimits, read_limits
from hvpsbridge.host.psrp.errors import (
    FAULT_NO_SUCH_SHELL,
    connect_failure,
    transport_failure,
)
from hvpsbridge.host.psrp.kerberos import check_installed
from hvpsbridge.host.psrp.pipeline import Emitted, Pipeline
from hvpsbridge.host.psrp.pool import BoundedPool
from hvpsbridge.host.psrp.shells import HostShell, list_shells, shell_name

logger = logging.getLogger(__name__)

# How long the shell of a dead client lives, and its process. WinRM's default of two hours would block merges
# for too long (docs/hyperv-facts.md#shell-idle-timeout).
IDLE_TIMEOUT_SECONDS = 300
# For the readers of a disk, the check of free space, and other commands.
RUNSPACES = 8
# How often a waiting operation looks whether it must stop.
LOOK_SECONDS = 5
# How long to wait for a host to end a shell.
CLOSE_SECONDS = 5
DEFAULT_CONFIGURATION = "Microsoft.PowerShell"


class Session:
    """A shell on a host, open until :meth:`close`. Thread-safe.

    Attributes:
        shell_id: WinRM's id of the shell.
        lost: whether the last use found that the shell or the connection is gone.
    """

    def __init__(self, connection: HostConnection, pool: RunspacePool, client: WSManClient) -> None:
        self._connection = connection
        self._pool = pool
        self._local = threading.local()
        self._local.client = client
        self._clients: list[WSManClient] = [client]
        self._lock = threading.Lock()
        self.shell_id: str = str(pool.shell.id or pool.id)
        self.lost = False
        self._used = time.monotonic()

    @property
    def idle_seconds(self) -> float:
        """How long no script has run in this shell; the host ends idle shells."""
        return time.monotonic() - self._used

    @classmethod
    def open(cls, connection: HostConnection, run_id: UUID | None = None) -> Session:
        """Open a shell on the host.

        Raises:
            HostUnreachable: the host does not answer.
            HostBusy: the host answers, but cannot open a shell at the moment.
            HostRefused: the login failed, or the host allows no more shells.
            CertificateRejected: TLS verification failed.
            ConfigurationError: Kerberos is needed and not installed, or certificates cannot be read.
        """
        check_installed(connection)
        check_authorities(connection)
        check_client_certificate(connection)
        wsman = new_wsman(connection)
        pool = BoundedPool(
            wsman,
            max_runspaces=RUNSPACES,
            idle_timeout=IDLE_TIMEOUT_SECONDS,
            configuration_name=connection.jea or DEFAULT_CONFIGURATION,
        )
        # Shows in the host's list of shells, so that an administrator can see what it is for.
        pool.shell.name = shell_name(run_id)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pool.open()
        except Exception as err:
            # The shell may exist on the host, and it is not recorded anywhere yet.
            with suppress(Exception):
                pool.shell.close()
            wsman.close()
            if isinstance(err, HvpsError):  # a signal or a deadline ended it, not the host
                raise
            raise connect_failure(connection, err) from err
        logger.debug("shell %s opened on %s", pool.id, connection.name)
        return cls(connection, pool, WSManClient(connection.name, wsman, pool))

    @property
    def host(self) -> str:
        """Name of the host."""
        return self._connection.name

    @property
    def operation_timeout_seconds(self) -> int:
        """How long the host may hold a Receive while it has nothing to send."""
        return max(1, round(self._connection.operation_timeout))

    def client(self) -> WSManClient:
        """The client of the calling thread, created on first use."""
        client: WSManClient | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self.new_client()
        return client

    def new_client(self) -> WSManClient:
        """Another connection to this shell, for one thread at a time."""
        wsman = new_wsman(self._connection)
        # To WinRM all connections are one client: a shell belongs to the session id that created it.
        wsman.session_id = self._pool.connection.session_id
        wsman.update_max_payload_size(self._pool.connection.max_envelope_size)
        pool = BoundedPool(
            wsman,
            max_runspaces=RUNSPACES,
            configuration_name=self._connection.jea or DEFAULT_CONFIGURATION,
        )
        pool.id, pool.shell.id = self._pool.id, self.shell_id
        pool.shell.opened = True
        pool.shell._selector_set = self._pool.shell._selector_set
        pool.state = RunspacePoolState.OPENED
        pool.protocol_version = self._pool.protocol_version
        client = WSManClient(self.host, wsman, pool)
        with self._lock:
            self._clients.append(client)
        return client

    def drop_client(self, client: WSManClient) -> None:
        """Close a client."""
        with self._lock, suppress(ValueError):
            self._clients.remove(client)
        client.close()

    def run(
        self,
        operation: str,
        text: str | None,
        parameters: Mapping[str, object],
        deadline_seconds: float,
        *,
        to_the_end: bool = False,
        seconds_each: float = 0.0,
        max_bytes: int | None = None,
    ) -> Generator[Emitted, None, None]:
        """Objects that a script emits, as they arrive. Closing the iterator stops the script.

        Args:
            operation: name for errors.
            text: the whole script; None to call the command ``operation``.
            parameters: bound values by name.
            deadline_seconds: how long it may take.
            seconds_each: how much longer it may take for each object that it emits.
            to_the_end: do not stop it in the middle because the work must stop.
            max_bytes: of all replies together; None for output that is not kept.

        Raises:
            HvpsError: the work must stop (``stopping``).
            SessionLost: the connection or the shell is gone; the script may or may not have run.
            OperationTimedOut: it did not end in time and was told to stop.
            ProtocolViolation: a reply cannot be read, or there are too many.
            OperationFailed: the host reported an error; often a subclass.
        """
        started, allowed_seconds = time.monotonic(), deadline_seconds
        with self.tracking_loss():
            client = self.client()
            pipeline = Pipeline(client, operation, text, parameters)
            before = client.received_bytes
            try:
                while pipeline.running:
                    self._used = time.monotonic()
                    left = started + allowed_seconds - time.monotonic()
                    if left <= 0:
                        raise OperationTimedOut(self.host, operation, allowed_seconds)
                    if not to_the_end:
                        stopping.check()
                    for emitted in pipeline.poll(min(self.operation_timeout_seconds, LOOK_SECONDS, left)):
                        allowed_seconds += seconds_each
                        yield emitted
                    if max_bytes is not None and client.received_bytes - before > max_bytes:
                        raise ProtocolViolation(self.host, operation, f"more than {max_bytes} bytes")
                if problem := pipeline.error():
                    raise problem
            finally:
                pipeline.close()

    @contextmanager
    def tracking_loss(self) -> Iterator[None]:
        """Set ``lost`` by whether the block raises SessionLost."""
        try:
            yield
        except SessionLost:
            self.lost = True
            raise
        self.lost = False

    def close(self) -> None:
        """Delete the shell and close all connections. Never raises: an idle shell ends by itself."""
        try:
            # Also if the shell seems lost: it may still exist and hold a disk.
            wsman = self.new_client().wsman
            wsman.delete(
                self._pool.shell.resource_uri, selector_set=_selectors(self.shell_id), timeout=CLOSE_SECONDS
            )
        except Exception as err:  # noqa: BLE001 - best effort; the idle timeout does the rest
            logger.debug("shell %s on %s did not close: %s", self.shell_id, self.host, type(err).__name__)
        with self._lock:
            clients, self._clients = self._clients, []
        for client in clients:
            client.close()

    def shells(self) -> tuple[HostShell, ...]:
        """Every shell that this account can see, including this one.

        Raises:
            SessionLost: the host did not answer.
        """
        with self.tracking_loss():
            try:
                return list_shells(self.client().wsman)
            except Exception as err:
                raise transport_failure(self.host, "list shells", err) from err

    def limits(self) -> WinRmLimits:
        """Limits of WinRM on the host, as far as the account may read them."""
        return read_limits(self.client().wsman, self._connection.jea or DEFAULT_CONFIGURATION)

    def end_shell(self, shell_id: str) -> bool:
        """Delete another shell of the same account; false if it does not exist.

        Raises:
            SessionLost: the host did not answer.
        """
        with self.tracking_loss():
            try:
                self.client().wsman.delete(self._pool.shell.resource_uri, selector_set=_selectors(shell_id))
            except Exception as err:
                if isinstance(err, WSManFaultError) and err.code == FAULT_NO_SUCH_SHELL:
                    return False
                raise transport_failure(self.host, "end shell", err) from err
        return True


def _selectors(shell_id: str) -> SelectorSet:
    selectors = SelectorSet()
    selectors.add_option("ShellId", shell_id)
    return selectors
