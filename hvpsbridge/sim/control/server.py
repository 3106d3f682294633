"""The server of the control socket: one method per call."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from hvpsbridge.sim.control.address import SOCKET_NAME, reachable
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

logger = logging.getLogger(__name__)


class ControlServer:
    """Answers ``Control`` in the process of the model. Use as a context manager.

    Args:
        folder: state folder, for the socket.
        info: result of ``Control.info``.
        set_fault: arms faults that the model does not know, such as those of the wire; raises ValueError for
            an unknown name.
        armed: returns these faults.
        counters: returns the result of ``Control.counters``.
        shutdown: called in a thread of this server when a client asks the process to end.
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
        # A world that is controlled from outside must survive this process.
        model.save_on_change()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path.unlink(missing_ok=True)
        with reachable(self._path) as path:
            self._listener.bind(path)
        self._path.chmod(0o600)
        self._listener.listen(8)
        threading.Thread(target=self._accept, name="sim-control", daemon=True).start()

    def close(self) -> None:
        """Close the socket."""
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
        return [self._row(vm) for vm in self._model.vms.all()]

    def _do_checkpoints(self, vm: str) -> list[dict[str, Any]]:
        return [
            {
                "checkpoint_id": str(point.checkpoint_id),
                "vm_id": str(point.vm_id),
                "name": point.name,
                "kind": point.kind.name.lower(),
                "slots": list(point.disks),
            }
            for point in self._model.checkpoints.all(self._find(vm).vm_id, hidden=True)
        ]

    def _do_kept_image(self, checkpoint_id: str, slot: str) -> str:
        return str(self._model.golden.at_checkpoint(UUID(checkpoint_id), Slot.parse(slot)).absolute())

    def _do_live_image(self, vm: str, slot: str) -> str:
        path = self._model.golden.live(self._find(vm).vm_id, Slot.parse(slot))
        if not path.exists():
            raise ValueError(f"{slot} has no golden image")
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
            raise ValueError(f"unknown VM state {state!r}")
        return str(self._model.setup.create_vm(name, state=wanted, **settings).vm_id)

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
        self._model.setup.add_disk(
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
        return self._model.guests.apply_image(self._find(vm).vm_id, Slot.parse(slot), Path(image))

    def _do_write(self, vm: str, slot: str, offset: int, data: str) -> None:
        self._model.guests.write(self._find(vm).vm_id, Slot.parse(slot), offset, base64.b64decode(data))

    def _do_set_state(self, vm: str, state: str) -> None:
        self._model.vms.set_state(self._find(vm).vm_id, state)

    def _do_change_vm(self, vm: str, settings: dict[str, Any]) -> None:
        self._model.setup.change_vm(self._find(vm).vm_id, **settings)

    def _do_add_pass_through(self, vm: str, slot: str, number: int) -> None:
        self._model.setup.add_pass_through(self._find(vm).vm_id, Slot.parse(slot), number)

    def _do_remove_disk(self, vm: str, slot: str) -> None:
        self._model.setup.remove_disk(self._find(vm).vm_id, Slot.parse(slot))

    def _do_resize_disk(self, vm: str, slot: str, size_bytes: int) -> None:
        self._model.setup.resize_disk(self._find(vm).vm_id, Slot.parse(slot), size_bytes)

    def _do_lose_tracking(self, vm: str, slot: str) -> None:
        self._model.incidents.lose_tracking(self._find(vm).vm_id, Slot.parse(slot))

    def _do_add_reference_point(self, vm: str) -> str:
        return self._model.incidents.add_reference_point(self._find(vm).vm_id)

    def _do_destroy_reference_points(self, vm: str) -> int:
        return self._model.incidents.destroy_reference_points(self._find(vm).vm_id)

    def _do_add_node(self, name: str, cluster: str | None) -> None:
        self._model.setup.add_node(name, cluster=cluster)

    def _do_migrate(self, vm: str, node: str, seconds: float) -> None:
        self._model.incidents.migrate(self._find(vm).vm_id, node, seconds=seconds)

    def _do_crash_host(self, node: str) -> None:
        self._model.incidents.crash_host(node)

    def _do_kill_host(self, node: str) -> None:
        self._model.incidents.kill_host(node)

    def _do_revive_host(self, node: str) -> None:
        self._model.incidents.revive_host(node)

    def _do_checkpoint(self, vm: str, name: str, recovery: bool) -> str:
        job = self._model.checkpoints.create(
            self._find(vm).vm_id,
            name=name,
            kind=SnapshotType.Recovery if recovery else SnapshotType.Standard,
            consistency=Consistency.Crash,
        )
        return self._finish(job.job_id, "checkpoint")

    def _do_remove_checkpoint(self, checkpoint_id: str) -> None:
        self._finish(self._model.checkpoints.remove(UUID(checkpoint_id)).job_id)

    def _do_apply_checkpoint(self, checkpoint_id: str) -> None:
        self._finish(self._model.checkpoints.apply(UUID(checkpoint_id)).job_id)

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
        logger.info("asked to end")

    # -- inside -----------------------------------------------------------------------------------------

    def _finish(self, job_id: UUID, result: str | None = None) -> str:
        job = self._model.jobs.wait(self._model.jobs.get(job_id))
        if job.error_code:
            raise ValueError(job.error_text)
        return job.results[result] if result else ""

    def _find(self, text: str) -> Vm:
        vms = self._model.vms.all()
        found = [vm for vm in vms if str(vm.vm_id) == text.lower()] or [vm for vm in vms if vm.name == text]
        if len(found) != 1:
            raise ValueError(
                f"no VM {text!r}" if not found else f"{len(found)} VMs are named {text!r}; use an id"
            )
        return found[0]

    def _row(self, vm: Vm) -> dict[str, Any]:
        disks = []
        for drive in self._model.disks.drives(vm.vm_id):
            if drive.layer is not None:
                chain = self._model.disks.chain(drive.layer)
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
            "status": list(self._model.vms.status(vm.vm_id)),
            "disks": disks,
            "checkpoints": len(self._model.checkpoints.all(vm.vm_id, hidden=True)),
            "reference_points": len(self._model.reference_points.all(vm.vm_id)),
        }
