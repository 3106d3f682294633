"""Control of a simulated host that runs in another process, through a socket in its state folder.

:class:`ControlServer` runs beside the model; :class:`Control` is what ``hvps sim`` commands use. One JSON
line asks, one answers. Paths in requests are opened by the serving process, which has the same user.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from hvpsbridge.errors import SimulatorError
from hvpsbridge.sim.images import as_raw
from hvpsbridge.sim.model import (
    Consistency,
    DiskError,
    HyperVError,
    Model,
    Slot,
    SnapshotType,
    VhdFormat,
    VhdType,
    VMState,
)
from hvpsbridge.sim.model.state import Vm

log = logging.getLogger(__name__)

SOCKET_NAME = "control"
_FIRST_SLOT = "scsi0:0"


@dataclass(frozen=True, slots=True)
class SimulatedDisk:
    """A disk of a simulated VM. ``chain`` is its files, top first; ``changed_bytes`` what the top holds."""

    slot: str
    path: str | None
    size_bytes: int
    chain: tuple[str, ...]
    changed_bytes: int


@dataclass(frozen=True, slots=True)
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
    """A checkpoint of a simulated VM. ``slots`` are the disks it froze."""

    checkpoint_id: UUID
    vm_id: UUID
    name: str
    kind: str
    slots: tuple[str, ...]


class Control:
    """A simulated host in another process. Every method raises :class:`SimulatorError` when it says no.

    A VM is named by its id or, when only one has it, by its name. A slot is text such as ``scsi0:0``.

    Args:
        folder: the state folder that ``hvps sim serve`` was given.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _reachable(folder / SOCKET_NAME) as path:
                self._socket.connect(path)
        except OSError as err:
            self._socket.close()
            raise SimulatorError(
                f"nobody serves {folder}: {err.strerror}; start it with hvps sim serve"
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

    # -- looking --------------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """What the serving process says of itself, such as ``url``, ``engine`` and ``pid``."""
        return dict(self._ask("info"))

    def vms(self) -> tuple[SimulatedVm, ...]:
        """All VMs, by name."""
        return tuple(
            SimulatedVm(
                UUID(row["vm_id"]),
                row["name"],
                row["node"],
                row["state"],
                tuple(row["status"]),
                tuple(
                    SimulatedDisk(
                        disk["slot"],
                        disk["path"],
                        disk["size_bytes"],
                        tuple(disk["chain"]),
                        disk["changed_bytes"],
                    )
                    for disk in row["disks"]
                ),
                row["checkpoints"],
                row["reference_points"],
            )
            for row in self._ask("vms")
        )

    def checkpoints(self, vm: str) -> tuple[SimulatedCheckpoint, ...]:
        """Checkpoints of a VM, oldest first, those included that no cmdlet shows yet."""
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

    def kept_image(self, checkpoint_id: UUID, slot: str) -> Path:
        """Raw image of what a disk was at a checkpoint, kept apart from all that a backup reads."""
        return Path(self._ask("kept_image", checkpoint_id=str(checkpoint_id), slot=slot))

    def live_image(self, vm: str, slot: str = _FIRST_SLOT) -> Path:
        """Raw image of what the guest's disk is now, kept apart in the same way. Do not change it."""
        return Path(self._ask("live_image", vm=vm, slot=slot))

    def knobs(self) -> dict[str, Any]:
        """All knobs with their values (``docs/simulated-host.md``)."""
        return dict(self._ask("knobs"))

    def faults(self) -> dict[str, int]:
        """Faults still to come, with their counts."""
        return dict(self._ask("faults"))

    def counters(self) -> dict[str, Any]:
        """What the host was asked for and what it sent since it was started (``wsman.counters``)."""
        return dict(self._ask("counters"))

    # -- changing -------------------------------------------------------------------------------------

    def create_vm(self, name: str, *, state: str = "running", **settings: Any) -> UUID:
        """A new VM without disks. ``settings`` are those of :meth:`Model.create_vm`."""
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
        """Give the VM a disk with the content of a raw, VHDX or qcow2 image, which is copied."""
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
        """Give the VM an empty disk."""
        self._ask("add_disk", vm=vm, slot=slot, size_bytes=size_bytes)

    def apply_image(self, vm: str, image: Path, slot: str = _FIRST_SLOT) -> int:
        """Let the guest write what differs in a newer image of the same size; how many bytes that were."""
        with as_raw(image.absolute(), self._folder) as raw:
            return int(self._ask("apply_image", vm=vm, slot=slot, image=str(raw)))

    def write(self, vm: str, slot: str, offset: int, data: bytes) -> None:
        """Let the guest write ``data`` at ``offset``; whole sectors."""
        self._ask("write", vm=vm, slot=slot, offset=offset, data=base64.b64encode(data).decode("ascii"))

    def set_state(self, vm: str, state: str) -> None:
        """``start``, ``stop``, ``save``, ``pause``, ``resume`` or ``power_off`` the VM."""
        self._ask("set_state", vm=vm, state=state)

    def checkpoint(self, vm: str, name: str = "", *, recovery: bool = False) -> UUID:
        """Take a checkpoint as a user (or, with ``recovery``, as another backup product) would."""
        return UUID(self._ask("checkpoint", vm=vm, name=name, recovery=recovery))

    def remove_checkpoint(self, checkpoint_id: UUID) -> None:
        """Remove a checkpoint."""
        self._ask("remove_checkpoint", checkpoint_id=str(checkpoint_id))

    def apply_checkpoint(self, checkpoint_id: UUID) -> None:
        """Put the VM back to a checkpoint; it is off afterwards."""
        self._ask("apply_checkpoint", checkpoint_id=str(checkpoint_id))

    def set_fault(self, name: str, count: int = 1) -> None:
        """Let a fault happen the next ``count`` times; 0 disarms it."""
        self._ask("set_fault", name=name, count=count)

    def set_knob(self, name: str, value: object) -> None:
        """Turn a knob; text is converted to the knob's type."""
        self._ask("set_knob", name=name, value=value)

    def shutdown(self) -> None:
        """Ask the serving process to save its state and end; returns when it has agreed."""
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


class ControlServer:
    """Answers :class:`Control` in the process that has the model. Use as a context manager.

    Args:
        folder: state folder; the socket is made there.
        info: what :meth:`Control.info` gives.
        set_fault: takes faults that the model does not know, such as those of the WSMan front; raises
            ValueError for a name it does not know either.
        armed: gives those that are still to come.
        counters: gives what :meth:`Control.counters` gives.
        shutdown: called, on a thread of this server, when somebody asks for the end.
    """

    def __init__(
        self,
        model: Model,
        folder: Path,
        *,
        info: Mapping[str, Any] | None = None,
        set_fault: Callable[[str, int], None] | None = None,
        armed: Callable[[], Mapping[str, int]] | None = None,
        counters: Callable[[], Mapping[str, Any]] | None = None,
        shutdown: Callable[[], None] | None = None,
    ) -> None:
        self._model = model
        self._path = folder / SOCKET_NAME
        self._info = dict(info or {})
        self._other_fault = set_fault
        self._other_armed = armed
        self._counters = counters
        self._on_shutdown = shutdown
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path.unlink(missing_ok=True)
        with _reachable(self._path) as path:
            self._listener.bind(path)
        self._path.chmod(0o600)
        self._listener.listen(8)
        threading.Thread(target=self._accept, name="sim-control", daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(
                target=self._serve, args=(connection,), name="sim-control-client", daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rwb") as stream:
            for line in stream:
                request = json.loads(line)
                call = request.pop("call")
                stream.write(json.dumps(self._reply(call, request)).encode() + b"\n")
                stream.flush()
                if call == "shutdown" and self._on_shutdown is not None:
                    self._on_shutdown()

    def _reply(self, call: str, request: dict[str, Any]) -> dict[str, Any]:
        handler = getattr(self, f"_do_{call}", None)
        if handler is None:
            return {"error": "this simulated host does not know that call"}
        try:
            result = handler(**request)
            self._model.save()
        except (HyperVError, DiskError, ValueError, OSError, KeyError, TypeError) as err:
            return {"error": str(err) or type(err).__name__}
        return {"result": result}

    # -- calls ------------------------------------------------------------------------------------------

    def _do_info(self) -> dict[str, Any]:
        return self._info

    def _do_vms(self) -> list[dict[str, Any]]:
        return [self._row(vm) for vm in self._model.vms()]

    def _do_checkpoints(self, vm: str) -> list[dict[str, Any]]:
        return [
            {
                "checkpoint_id": str(point.checkpoint_id),
                "vm_id": str(point.vm_id),
                "name": point.name,
                "kind": point.kind.name.lower(),
                "slots": list(point.disks),
            }
            for point in self._model.checkpoints(self._find(vm).vm_id, hidden=True)
        ]

    def _do_kept_image(self, checkpoint_id: str, slot: str) -> str:
        return str(self._model.kept_image(UUID(checkpoint_id), Slot.parse(slot)).absolute())

    def _do_live_image(self, vm: str, slot: str) -> str:
        path = self._model.kept.live(self._find(vm).vm_id, Slot.parse(slot))
        if not path.exists():
            raise ValueError(f"no image is kept of {slot}")
        return str(path.absolute())

    def _do_knobs(self) -> dict[str, Any]:
        return asdict(self._model.knobs)

    def _do_faults(self) -> dict[str, int]:
        return {**self._model.faults.armed(), **(self._other_armed() if self._other_armed else {})}

    def _do_counters(self) -> dict[str, Any]:
        return dict(self._counters()) if self._counters else {}

    def _do_create_vm(self, name: str, state: str, settings: dict[str, Any]) -> str:
        wanted = next((known for known in VMState if known.name.lower() == state.lower()), None)
        if wanted is None:
            raise ValueError(f"no VM state {state!r}")
        return str(self._model.create_vm(name, state=wanted, **settings).vm_id)

    def _do_add_disk(
        self,
        vm: str,
        slot: str,
        image: str | None = None,
        size_bytes: int | None = None,
        logical_sector_bytes: int = 512,
        fixed: bool = False,
        vhd: bool = False,
        disk_id: str | None = None,
    ) -> None:
        self._model.add_disk(
            self._find(vm).vm_id,
            Slot.parse(slot),
            image=Path(image) if image else None,
            size_bytes=size_bytes,
            logical_sector_bytes=logical_sector_bytes,
            kind=VhdType.Fixed if fixed else VhdType.Dynamic,
            format=VhdFormat.VHD if vhd else VhdFormat.VHDX,
            disk_id=None if disk_id is None else UUID(disk_id),
        )

    def _do_apply_image(self, vm: str, slot: str, image: str) -> int:
        return self._model.apply_image(self._find(vm).vm_id, Slot.parse(slot), Path(image))

    def _do_write(self, vm: str, slot: str, offset: int, data: str) -> None:
        self._model.write(self._find(vm).vm_id, Slot.parse(slot), offset, base64.b64decode(data))

    def _do_set_state(self, vm: str, state: str) -> None:
        self._model.set_state(self._find(vm).vm_id, state)

    def _do_checkpoint(self, vm: str, name: str, recovery: bool) -> str:
        job = self._model.create_checkpoint(
            self._find(vm).vm_id,
            name=name,
            kind=SnapshotType.Recovery if recovery else SnapshotType.Standard,
            consistency=Consistency.Crash,
        )
        return self._finish(job.job_id, "checkpoint")

    def _do_remove_checkpoint(self, checkpoint_id: str) -> None:
        self._finish(self._model.remove_checkpoint(UUID(checkpoint_id)).job_id)

    def _do_apply_checkpoint(self, checkpoint_id: str) -> None:
        self._finish(self._model.apply_checkpoint(UUID(checkpoint_id)).job_id)

    def _do_set_fault(self, name: str, count: int) -> None:
        try:
            self._model.faults.arm(name, count)
        except ValueError:
            if self._other_fault is None:
                raise
            self._other_fault(name, count)

    def _do_set_knob(self, name: str, value: object) -> None:
        self._model.set_knob(name, value)

    def _do_shutdown(self) -> None:
        log.info("asked to end")

    # -- inside -----------------------------------------------------------------------------------------

    def _finish(self, job_id: UUID, result: str | None = None) -> str:
        job = self._model.wait(self._model.job(job_id))
        if job.error_code:
            raise ValueError(job.error_text)
        return job.results[result] if result else ""

    def _find(self, text: str) -> Vm:
        vms = self._model.vms()
        found = [vm for vm in vms if str(vm.vm_id) == text.lower()] or [vm for vm in vms if vm.name == text]
        if len(found) != 1:
            raise ValueError(f"no VM {text!r}" if not found else f"{len(found)} VMs are named {text!r}")
        return found[0]

    def _row(self, vm: Vm) -> dict[str, Any]:
        disks = []
        for drive in self._model.drives(vm.vm_id):
            if drive.layer is not None:
                chain = self._model.chain(drive.layer)
                disks.append(
                    {
                        "slot": str(drive.slot),
                        "path": chain[0].path,
                        "size_bytes": chain[0].size_bytes,
                        "chain": [layer.path for layer in chain],
                        "changed_bytes": chain[0].present.total_bytes,
                    }
                )
        return {
            "vm_id": str(vm.vm_id),
            "name": vm.name,
            "node": vm.node,
            "state": vm.state.name.lower(),
            "status": list(self._model.operational_status(vm.vm_id)),
            "disks": disks,
            "checkpoints": len(self._model.checkpoints(vm.vm_id, hidden=True)),
            "reference_points": len(self._model.reference_points(vm.vm_id)),
        }


@contextlib.contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """A name for a socket that fits the 108 bytes the kernel allows, however deep the folder is."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
