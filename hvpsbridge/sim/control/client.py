"""The client of a simulated host's control socket."""

from __future__ import annotations

import base64
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from hvpsbridge.errors import SimulatorError
from hvpsbridge.sim.control.address import SOCKET_NAME, reachable
from hvpsbridge.sim.images import as_raw

_FIRST_SLOT = "scsi0:0"


@dataclass(frozen=True, slots=True)
class SimulatedDisk:
    """A disk of a simulated VM. ``chain`` are its files, top first; ``changed_bytes`` are in the top one."""

    slot: str
    path: str | None
    size_bytes: int
    chain: tuple[str, ...]
    changed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedVm:
    """A simulated VM."""

    vm_id: UUID
    name: str
    node: str
    state: str
    status: tuple[int, ...]
    disks: tuple[SimulatedDisk, ...]
    checkpoints: int
    reference_points: int


@dataclass(frozen=True, slots=True)
class SimulatedCheckpoint:
    """A checkpoint of a simulated VM. ``slots`` are those of its disks."""

    checkpoint_id: UUID
    vm_id: UUID
    name: str
    kind: str
    slots: tuple[str, ...]


class Control:
    """A simulated host in another process. Every method raises ``SimulatorError`` if the host refuses.

    ``vm`` is an id or an unambiguous name, ``slot`` is text such as ``scsi0:0``.

    Args:
        folder: state folder of ``hvps sim serve``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with reachable(folder / SOCKET_NAME) as path:
                self._socket.connect(path)
        except OSError as err:
            self._socket.close()
            raise SimulatorError(
                f"no simulated host runs in {folder}: {err.strerror}; start it with hvps sim serve"
            ) from err
        self._stream = self._socket.makefile("rwb")

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- showing --------------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """Facts about the serving process, such as ``url``, ``engine`` and ``pid``."""
        return dict(self._ask("info"))

    def vms(self) -> tuple[SimulatedVm, ...]:
        """All VMs, by name."""
        return tuple(
            SimulatedVm(
                vm_id=UUID(row["vm_id"]),
                name=row["name"],
                node=row["node"],
                state=row["state"],
                status=tuple(row["status"]),
                disks=tuple(
                    SimulatedDisk(
                        disk["slot"],
                        disk["path"],
                        disk["size_bytes"],
                        tuple(disk["chain"]),
                        disk["changed_bytes"],
                    )
                    for disk in row["disks"]
                ),
                checkpoints=row["checkpoints"],
                reference_points=row["reference_points"],
            )
            for row in self._ask("vms")
        )

    def checkpoints(self, vm: str) -> tuple[SimulatedCheckpoint, ...]:
        """Checkpoints of a VM, oldest first, including those that cmdlets do not show yet."""
        return tuple(
            SimulatedCheckpoint(
                UUID(row["checkpoint_id"]),
                UUID(row["vm_id"]),
                row["name"],
                row["kind"],
                tuple(row["slots"]),
            )
            for row in self._ask("checkpoints", vm=vm)
        )

    def golden_image(self, checkpoint_id: UUID, slot: str) -> Path:
        """Golden image of a disk at a checkpoint: a raw file that no backup has read."""
        return Path(self._ask("kept_image", checkpoint_id=str(checkpoint_id), slot=slot))

    def live_image(self, vm: str, slot: str = _FIRST_SLOT) -> Path:
        """Golden image of a disk as the guest sees it now. Do not change it."""
        return Path(self._ask("live_image", vm=vm, slot=slot))

    def knobs(self) -> dict[str, Any]:
        """All knobs and their values (docs/simulated-host.md)."""
        return dict(self._ask("knobs"))

    def faults(self) -> dict[str, int]:
        """Armed faults and how many times each will happen."""
        return dict(self._ask("faults"))

    def counters(self) -> dict[str, Any]:
        """Counters of the host since its start (``wsman.counters``)."""
        return dict(self._ask("counters"))

    # -- changing ------------------------------------------------------------------------------------

    def create_vm(self, name: str, *, state: str = "running", **settings: Any) -> UUID:
        """Create a VM without disks. ``settings`` are those of ``Model.setup.create_vm``."""
        return UUID(self._ask("create_vm", name=name, state=state, settings=settings))

    def import_image(
        self,
        vm: str,
        image: Path,
        slot: str = _FIRST_SLOT,
        *,
        logical_sector_bytes: int = 512,
        fixed: bool = False,
        vhd: bool = False,
        disk_id: UUID | None = None,
    ) -> None:
        """Add a disk with a copy of a raw, VHDX or qcow2 image."""
        with as_raw(image.absolute(), self._folder) as raw:
            self._ask(
                "add_disk",
                vm=vm,
                slot=slot,
                image=str(raw),
                logical_sector_bytes=logical_sector_bytes,
                fixed=fixed,
                vhd=vhd,
                disk_id=None if disk_id is None else str(disk_id),
            )

    def add_empty_disk(self, vm: str, size_bytes: int, slot: str = _FIRST_SLOT) -> None:
        """Add an empty disk."""
        self._ask("add_disk", vm=vm, slot=slot, size_bytes=size_bytes)

    def apply_image(self, vm: str, image: Path, slot: str = _FIRST_SLOT) -> int:
        """Write what differs in a newer image of the same size, as the guest. Returns the bytes written."""
        with as_raw(image.absolute(), self._folder) as raw:
            return int(self._ask("apply_image", vm=vm, slot=slot, image=str(raw)))

    def write(self, vm: str, slot: str, offset: int, data: bytes) -> None:
        """Write whole sectors at ``offset``, as the guest."""
        self._ask("write", vm=vm, slot=slot, offset=offset, data=base64.b64encode(data).decode("ascii"))

    def set_state(self, vm: str, state: str) -> None:
        """``start``, ``stop``, ``save``, ``pause``, ``resume`` or ``power_off`` the VM."""
        self._ask("set_state", vm=vm, state=state)

    def change_vm(self, vm: str, **settings: Any) -> None:
        """Change settings of a VM, such as ``checkpoint_type="disabled"`` or ``merge_enabled=False``."""
        self._ask("change_vm", vm=vm, settings=settings)

    def add_pass_through(self, vm: str, slot: str, number: int) -> None:
        """Attach a physical disk of the host to the VM."""
        self._ask("add_pass_through", vm=vm, slot=slot, number=number)

    def remove_disk(self, vm: str, slot: str) -> None:
        """Remove a drive from the VM."""
        self._ask("remove_disk", vm=vm, slot=slot)

    def resize_disk(self, vm: str, slot: str, size_bytes: int) -> None:
        """Resize a disk."""
        self._ask("resize_disk", vm=vm, slot=slot, size_bytes=size_bytes)

    def lose_tracking(self, vm: str, slot: str = _FIRST_SLOT) -> None:
        """Delete the change tracking file of a disk."""
        self._ask("lose_tracking", vm=vm, slot=slot)

    def add_reference_point(self, vm: str) -> str:
        """Add a reference point as another backup product would. Returns its InstanceID."""
        return str(self._ask("add_reference_point", vm=vm))

    def destroy_reference_points(self, vm: str) -> int:
        """Destroy all reference points of a VM. Returns how many there were."""
        return int(self._ask("destroy_reference_points", vm=vm))

    def add_node(self, name: str, *, cluster: str | None = None) -> None:
        """Add a host."""
        self._ask("add_node", name=name, cluster=cluster)

    def migrate(self, vm: str, node: str, *, seconds: float = 0.0) -> None:
        """Live-migrate a VM to another host within ``seconds``."""
        self._ask("migrate", vm=vm, node=node, seconds=seconds)

    def crash_host(self, node: str) -> None:
        """Power-cycle a host. Its VMs are off afterwards."""
        self._ask("crash_host", node=node)

    def kill_host(self, node: str) -> None:
        """Let a host die. It does not answer until it is revived; clustered VMs start on another host."""
        self._ask("kill_host", node=node)

    def revive_host(self, node: str) -> None:
        """Boot a dead host. VMs that moved to other hosts stay there."""
        self._ask("revive_host", node=node)

    def checkpoint(self, vm: str, name: str = "", *, recovery: bool = False) -> UUID:
        """Take a checkpoint, as a user or (with ``recovery``) another backup product would."""
        return UUID(self._ask("checkpoint", vm=vm, name=name, recovery=recovery))

    def remove_checkpoint(self, checkpoint_id: UUID) -> None:
        """Remove a checkpoint."""
        self._ask("remove_checkpoint", checkpoint_id=str(checkpoint_id))

    def apply_checkpoint(self, checkpoint_id: UUID) -> None:
        """Revert the VM to a checkpoint. It is off afterwards."""
        self._ask("apply_checkpoint", checkpoint_id=str(checkpoint_id))

    def set_fault(self, name: str, count: int = 1) -> None:
        """Make a fault happen the next ``count`` times; 0 disarms it."""
        self._ask("set_fault", name=name, count=count)

    def set_knob(self, name: str, value: object) -> None:
        """Set a knob; text is converted to its type."""
        self._ask("set_knob", name=name, value=value)

    def shutdown(self) -> None:
        """Ask the serving process to save its state and end. Does not wait for its end."""
        self._ask("shutdown")

    def _ask(self, call: str, **arguments: Any) -> Any:
        try:
            self._stream.write(json.dumps({"call": call, **arguments}).encode() + b"\n")
            self._stream.flush()
            line = self._stream.readline()
        except OSError as err:
            raise SimulatorError(f"{call}: connection lost: {err.strerror}") from err
        if not line:
            raise SimulatorError(f"{call}: the serving process has ended")
        reply = json.loads(line)
        if "error" in reply:
            raise SimulatorError(f"{call}: {reply['error']}")
        return reply["result"]
