"""The hosts of a play, and which of them has a VM."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from hvpsbridge.errors import HostError

if TYPE_CHECKING:
    from hvpsbridge.host.hyperv import HyperVHost


@dataclass(frozen=True, slots=True)
class HostTarget:
    """A host of a run: its name, and a function that opens a session on it."""

    name: str
    connect: Callable[[], HyperVHost]


class Hosts:
    """The hosts of a play by name."""

    def __init__(self, targets: Iterable[HostTarget] = ()) -> None:
        self._targets = {target.name: target for target in targets}

    def connect_to(self, name: str) -> HyperVHost | None:
        """A session on the host of that name; None if the play has no such host."""
        target = self._targets.get(name)
        return None if target is None else target.connect()

    def connect_owner(self, vm_id: UUID, first: str) -> HyperVHost:
        """A session on the host that has the VM now.

        Args:
            vm_id: the VM.
            first: host to try before all others.

        Raises:
            HostError: the error of ``first``, if no host has the VM.
        """
        names = [first, *(name for name in self._targets if name != first)]
        refusal: HostError | None = None
        for name in names:
            host: HyperVHost | None = None
            try:
                host = self._targets[name].connect()
                host.vms(vm_id)
            except HostError as err:
                refusal = refusal or err
                if host is not None:
                    host.close()
            else:
                return host
        assert refusal is not None
        raise refusal
