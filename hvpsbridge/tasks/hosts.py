"""The hosts of a play, and which of them has a VM."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from hvpsbridge.errors import (
    ConnectionLimit,
    HostBusy,
    HostError,
    HostUnreachable,
    HvpsError,
    KdcUnreachable,
    ProtocolViolation,
    SessionLost,
    VmNotFound,
    VmOnSeveralHosts,
)
from hvpsbridge.tasks.planning.claims import REPLICAS
from hvpsbridge.text import MAX_REASON, one_line

if TYPE_CHECKING:
    from hvpsbridge.contract.results import VmInfo
    from hvpsbridge.host.hyperv import HyperVHost

logger = logging.getLogger(__name__)

# Only after these may another host have the VM: its host does not list it any more, or is down. A host that
# is busy, slow or answers wrongly, or that this machine cannot connect to, still has it.
_GONE = (VmNotFound, HostUnreachable, SessionLost)
_THERE = (ConnectionLimit, HostBusy, KdcUnreachable)


def host_error(host: str, operation: str, err: Exception) -> HvpsError:
    """The error for any exception while a host is asked: an unexpected one concerns this host only."""
    if isinstance(err, HvpsError):
        return err
    logger.error("host %s, %s", host, operation, exc_info=err)
    return ProtocolViolation(host, operation, f"{type(err).__name__}: {one_line(str(err), MAX_REASON)}")


@dataclass(frozen=True, slots=True)
class HostTarget:
    """A host of a run: its name, and a function that opens a session on it."""

    name: str
    connect: Callable[[], HyperVHost]


class Hosts:
    """The hosts of a play by name.

    Args:
        targets: the hosts.
        rivals: names of hosts that listed the VM at the same time as its host; they never get it.
        without: names of hosts that were asked in this run and did not list the VM.
        named: hosts that a task names; they are not asked for the VM.
    """

    def __init__(
        self,
        targets: Iterable[HostTarget] = (),
        rivals: Iterable[str] = (),
        without: Iterable[str] = (),
        named: Iterable[HostTarget] = (),
    ) -> None:
        self._targets = {target.name: target for target in targets}
        self._reachable = {target.name: target for target in named} | self._targets
        self._rivals = frozenset(rivals)
        self._without = {name.casefold() for name in without}

    def is_without(self, name: str) -> bool:
        """Whether the host of that name was asked in this run and did not list the VM."""
        return name.casefold() in self._without

    def connect_to(self, name: str) -> HyperVHost | None:
        """A session on the host of that name; None if neither the play nor a task of it has such a host."""
        target = self._reachable.get(name)
        return None if target is None else target.connect()

    def connect_owner(self, vm_id: UUID, first: str) -> HyperVHost:
        """A session on the host that has the VM now.

        That is ``first`` as long as it lists the VM. If it does not, or is down, it is the only other host
        that does; replicas do not count.

        Args:
            vm_id: the VM.
            first: the host that had it last.

        Raises:
            HostError: the error of ``first``, if no host has the VM.
            VmOnSeveralHosts: several others list it.
        """
        try:
            return self._ask(first, vm_id)[0]
        except _GONE as err:
            if isinstance(err, _THERE):
                raise
            if isinstance(err, VmNotFound):
                self._without.add(first.casefold())
            refusal: HostError = err
        heirs: list[tuple[HyperVHost, VmInfo]] = []
        for name in self._targets:
            if name == first or name in self._rivals:
                continue
            try:
                host, vm = self._ask(name, vm_id)
            except HostError as err:
                logger.debug("host %s: %s", name, err)
                continue
            if vm.replication_mode in REPLICAS:
                host.close()
            else:
                heirs.append((host, vm))
        if len(heirs) == 1:
            return heirs[0][0]
        for host, _ in heirs:
            host.close()
        if not heirs:
            raise refusal
        names = ", ".join(host.name for host, _ in heirs)
        done = f"{first} had it before, and it is backed up from none of them"
        raise VmOnSeveralHosts(names, heirs[0][1].name, vm_id, done)

    def _ask(self, name: str, vm_id: UUID) -> tuple[HyperVHost, VmInfo]:
        """A session on a host that lists the VM, and the VM.

        Raises:
            HostError: it does not list it, or does not answer as it should.
        """
        host: HyperVHost | None = None
        try:
            host = self._targets[name].connect()
            return host, host.vm(vm_id)
        except Exception as err:
            if host is not None:
                host.close()
            if isinstance(err, HvpsError):
                raise
            raise host_error(name, "Get-HvpsVm", err) from err
