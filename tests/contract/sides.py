"""Two worlds that are built alike, one behind each engine, and how their answers are compared."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, is_dataclass
from typing import Any
from uuid import UUID

from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from hvpsbridge.contract import OPERATIONS
from hvpsbridge.errors import OperationFailed
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.scripts import script_text
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import ControllerType, Model, Slot, VMState
from hvpsbridge.units import MIB

# Fields that differ between any two runs, or between the engines.
VARYING = {
    "time",
    "boot_time",
    "created",
    "process_id",
    "process_started",
    "powershell_version",
    "seconds",
    "uptime_seconds",
    "last_commit_fork",
    "percent",
    "free_bytes",
    "culture",
    # The content of configuration files depends on ids in their paths.
    "sha256",
    "data",
}
# Ids are random in each world; they are compared by the order in which they first appear.
IDS = re.compile(r"(?i)rctX:[0-9a-f:]+|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|00155D[0-9A-F]{6}")
FIRST = Slot(ControllerType.SCSI, 0, 0)
SECOND = Slot(ControllerType.IDE, 1, 0)
SIZE = 9 * MIB + 512
NOBODY = UUID("00000000-0000-0000-0000-00000000000b")


@dataclass
class Side:
    """One engine with its world."""

    model: Model
    served: SimulatedHost
    host: HyperVHost
    made: int = 0
    pool: RunspacePool | None = None

    def vm(self, name: str = "vm", **settings: Any) -> UUID:
        """A VM with two disks, of which the first has data."""
        self.made += 1
        settings.setdefault("folder", f"C:\\VMs\\{self.made}")
        vm_id = self.model.setup.create_vm(name, **settings).vm_id
        self.model.setup.add_disk(vm_id, FIRST, size_bytes=SIZE)
        self.model.setup.add_disk(vm_id, SECOND, size_bytes=1 * MIB, logical_sector_bytes=4096)
        if settings.get("state", VMState.Running) is VMState.Running:
            self.model.guests.write(vm_id, FIRST, 1 * MIB, bytes(range(256)) * 1024)
            self.model.guests.write(vm_id, FIRST, SIZE - 512, b"\xee" * 512)
        return vm_id

    def frozen(self, vm_id: UUID, slot: Slot = FIRST) -> tuple[UUID, str]:
        """A checkpoint of a VM and the path of one frozen disk."""
        job = self.model.jobs.wait(self.model.checkpoints.create(vm_id, name="by hand"))
        point = self.model.checkpoints.get(UUID(job.results["checkpoint"]))
        time.sleep(self.model.knobs.visibility_seconds)
        return point.checkpoint_id, self.model.disks.layer(point.disks[str(slot)]).path

    def raw(self, operation: str, parameters: dict[str, Any]) -> tuple[str, int]:
        """Error id and category of a script called with parameters that the host layer would refuse."""
        if self.pool is None:
            self.pool = RunspacePool(
                WSMan(
                    "127.0.0.1",
                    port=self.served.listener.port,
                    ssl=False,
                    auth="basic",
                    encryption="never",
                    username="backup",
                    password="backup",
                )
            )
            self.pool.open()
        shell = PowerShell(self.pool)
        shell.add_script(script_text(OPERATIONS[operation]), use_local_scope=True)
        shell.add_parameters(parameters)
        shell.invoke()
        shell.close()
        assert shell.had_errors, shell.output
        record = shell.streams.error[-1]
        return str(record.fq_error), int(record.category)


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except OperationFailed as err:
        return type(err).__name__, err.error_id, err.category, err.native


def defined(side: Side, vm_id: UUID) -> Any:
    """The definition of a VM. Texts of problems are left out: those of the scripts name the cmdlet."""
    answer = side.host.definition(vm_id)
    found = json.loads(answer.json)
    for problem in found["problems"]:
        del problem["message"]
    return answer.vm_id, found


def comparable(value: Any, seen: dict[str, str]) -> Any:
    """A value without what differs between any two runs; ``seen`` numbers the ids so far."""
    if is_dataclass(value) and not isinstance(value, type):
        return type(value).__name__, {
            field.name: comparable(getattr(value, field.name), seen)
            for field in fields(value)
            if field.name not in VARYING
        }
    if isinstance(value, list | tuple):
        return [comparable(item, seen) for item in value]
    if isinstance(value, dict):
        return {key: comparable(item, seen) for key, item in value.items()}
    if isinstance(value, UUID):
        return comparable(str(value), seen)
    if isinstance(value, str):
        return IDS.sub(lambda found: seen.setdefault(found[0].lower(), f"<id {len(seen)}>"), value)
    return value


def on_both(sides: dict[str, Side], run: Callable[[Side], Any]) -> dict[str, Any]:
    """Answers by engine. The engines run at the same time, since most of a case is waiting."""
    with ThreadPoolExecutor(len(sides)) as threads:
        return dict(zip(sides, threads.map(run, sides.values()), strict=True))
