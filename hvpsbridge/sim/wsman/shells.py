"""Shells and their commands, quotas, and removal of idle shells."""

from __future__ import annotations

import binascii
import contextlib
import logging
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from hvpsbridge.sim.engines.protocols import Engine, EngineFactory, Sink
from hvpsbridge.sim.wsman.envelope import Fault, Parts
from hvpsbridge.sim.wsman.names import Code
from hvpsbridge.sim.wsman.outbox import HARD_BYTES, SOFT_BYTES, Outbox
from hvpsbridge.units import MIB

logger = logging.getLogger(__name__)

_FRAGMENT_HEAD = struct.Struct(">QQBI")
_START = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """Limits of the service. The defaults are those of Windows Server.

    Facts: docs/hyperv-facts.md#winrm-shell-quotas, docs/hyperv-facts.md#inbound-limits.

    Attributes:
        envelope_bytes: ``MaxEnvelopeSizekb``, for either direction.
        shells_per_user: ``MaxShellsPerUser``.
        shell_memory_mb: ``MaxMemoryPerShellMB``; shown, not enforced.
        operations_per_user: ``MaxConcurrentOperationsPerUser``; shown, not enforced.
        commands_per_shell: ``MaxConcurrentCommandsPerShell``.
        idle_seconds: ``IdleTimeout`` of a shell if the client sets none.
        object_bytes: maximum size of a received object.
        command_bytes: maximum bytes that one pipeline may receive.
    """

    envelope_bytes: int = 512_000
    shells_per_user: int = 2_147_483_647
    shell_memory_mb: int = 2_147_483_647
    operations_per_user: int = 1500
    commands_per_shell: int = 1000
    idle_seconds: float = 7200.0
    object_bytes: int = 10 * MIB
    command_bytes: int = 50 * MIB


@dataclass(slots=True)
class Inbound:
    """Counts the PSRP fragments that one pipeline receives (docs/hyperv-facts.md#inbound-limits)."""

    quotas: Quotas
    total_bytes: int = 0
    object_bytes: int = 0

    def count(self, fragments: bytes) -> None:
        """Add fragments in base64.

        Raises:
            Fault: a limit is exceeded.
        """
        data = binascii.a2b_base64(fragments)
        self.total_bytes += len(data)
        if self.total_bytes > self.quotas.command_bytes:
            raise Fault(
                Code.UNSPECIFIED,
                "The total data received from the remote client exceeded allowed maximum. "
                f"Allowed maximum is {self.quotas.command_bytes}.",
            )
        position = 0
        while position + _FRAGMENT_HEAD.size <= len(data):
            _, _, flags, length = _FRAGMENT_HEAD.unpack_from(data, position)
            self.object_bytes = length if flags & _START else self.object_bytes + length
            if self.object_bytes > self.quotas.object_bytes:
                raise Fault(
                    Code.UNSPECIFIED,
                    "The current deserialized object size of the data received from the remote client "
                    "exceeded the allowed maximum object size. "
                    f"Allowed maximum is {self.quotas.object_bytes}.",
                )
            position += _FRAGMENT_HEAD.size + length


@dataclass(slots=True)
class Command:
    """One pipeline of a shell. ``command_id`` is spelled as the client did."""

    command_id: str
    inbound: Inbound
    started: float = field(default_factory=time.monotonic)
    # A reply that the client did not get, and the MessageID of the request that may get it; None for any.
    undelivered: tuple[str | None, Parts] | None = None

    @property
    def key(self) -> str:
        """The id as engines spell it."""
        return self.command_id.lower()


@dataclass(slots=True, kw_only=True)
class Shell:
    """One shell. It lives until it is deleted, idle for too long, or the service ends."""

    shell_id: str
    owner: str
    client_address: str
    resource_uri: str
    name: str
    idle_seconds: float
    outbox: Outbox
    engine: Engine
    commands: dict[str, Command] = field(default_factory=dict)
    created: float = field(default_factory=time.monotonic)
    used: float = field(default_factory=time.monotonic)
    disconnected: bool = False
    busy: int = 0
    undelivered: tuple[str | None, Parts] | None = None

    def command(self, command_id: str) -> Command:
        """The command with this id, ignoring case.

        Raises:
            Fault: there is none.
        """
        try:
            return self.commands[command_id.lower()]
        except KeyError:
            raise Fault(
                Code.UNEXPECTED_SELECTORS,
                f"The request for the Windows Remote Shell with ShellId {self.shell_id} failed because the "
                f"command {command_id} was not found on the server.",
            ) from None


class ShellTable:
    """All shells of a host. Thread-safe.

    Attributes:
        quotas: limits of the service.
        unread_bytes: returns how much output of a pipeline may wait for a Receive before its process is held
            back; whether Windows does so is unconfirmed (docs/hyperv-facts.md#slow-client).
    """

    def __init__(self, quotas: Quotas) -> None:
        self.quotas = quotas
        self.unread_bytes: Callable[[], int] = lambda: SOFT_BYTES
        self._lock = Lock()
        self._shells: dict[str, Shell] = {}

    def create(
        self,
        shell_id: str,
        owner: str,
        front: Callable[[Outbox], Sink],
        factory: EngineFactory,
        build: Callable[..., Shell],
    ) -> Shell:
        """Create a shell and start its engine.

        Raises:
            Fault: the owner has the maximum number of shells, or the id is taken.
        """
        outbox = Outbox(soft_bytes=self.unread_bytes(), hard_bytes=max(self.unread_bytes(), HARD_BYTES))
        with self._lock:
            if sum(shell.owner == owner for shell in self._shells.values()) >= self.quotas.shells_per_user:
                raise Fault(
                    Code.QUOTA_SHELLS,
                    "The WS-Management service cannot process the request. This user is allowed a maximum "
                    f"number of {self.quotas.shells_per_user} concurrent shells, which has been exceeded.",
                )
            if shell_id.lower() in self._shells:
                raise Fault(Code.UNEXPECTED_SELECTORS, f"The shell {shell_id} exists already.")
            shell = build(outbox=outbox, engine=factory(front(outbox)))
            self._shells[shell_id.lower()] = shell
        logger.info("shell %s opened, process %d", shell.shell_id, shell.engine.process_id)
        return shell

    def find(self, shell_id: str, owner: str) -> Shell:
        """The owner's shell with this id.

        Raises:
            Fault: there is none.
        """
        with self._lock:
            shell = self._shells.get(shell_id.lower())
            if shell is not None and shell.owner == owner:
                shell.used = time.monotonic()
                return shell
        raise Fault(
            Code.UNEXPECTED_SELECTORS,
            f"The request for the Windows Remote Shell with ShellId {shell_id} failed because the shell was "
            "not found on the server.",
            of_shell=True,
        )

    def kill(self, shell: Shell) -> None:
        """Remove a shell and kill its process, as a reboot does."""
        with self._lock:
            self._shells.pop(shell.shell_id.lower(), None)
        shell.outbox.fail("the shell is gone")
        shell.engine.kill()

    def remove(self, shell: Shell) -> None:
        """Close a shell and its engine; returns when the engine has ended."""
        with self._lock:
            self._shells.pop(shell.shell_id.lower(), None)
        shell.outbox.fail("the shell was deleted")
        shell.engine.close()
        logger.info("shell %s closed", shell.shell_id)

    def all(self) -> tuple[Shell, ...]:
        """All shells, oldest first."""
        with self._lock:
            return tuple(self._shells.values())

    def remove_idle(self) -> None:
        """Remove shells that were idle for too long and shells whose engine has died."""
        now = time.monotonic()
        for shell in self.all():
            if shell.outbox.broken is not None or (not shell.busy and now - shell.used > shell.idle_seconds):
                self.remove(shell)

    def remove_all(self) -> None:
        """Remove all shells."""
        for shell in self.all():
            with contextlib.suppress(OSError):
                self.remove(shell)
