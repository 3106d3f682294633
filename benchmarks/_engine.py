"""A simulated host with two frozen disks and the real PowerShell engine, in a separate process.

Run as a program with ``random`` or ``half`` (what the disks hold) it prints one JSON line and serves until
its standard input closes.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from pathlib import Path
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._canned import PASSWORD, USER
from hvpsbridge.secret import Secret
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import ControllerType, Model, Slot
from hvpsbridge.units import MIB

SIZE = 64 * MIB


def image(path: Path, kind: str) -> Path:
    """A raw image of random bytes, or of bytes in which every other KiB repeats."""
    chance = random.Random(4)
    with path.open("wb") as file:
        for _ in range(SIZE // MIB):
            if kind == "random":
                file.write(chance.randbytes(MIB))
            else:
                file.write(b"".join(chance.randbytes(1024) + b"0123456789abcdef" * 64 for _ in range(512)))
    return path


def main() -> None:
    """Serve until standard input closes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = Model(folder / "world", keep_images=False)
        source = image(folder / "image", sys.argv[1])
        paths = []
        for number in range(2):
            vm = model.setup.create_vm(f"bench{number}")
            slot = model.setup.add_disk(vm.vm_id, Slot(ControllerType.SCSI, 0, 0), image=source)
            job = model.jobs.wait(model.checkpoints.create(vm.vm_id))
            point = model.checkpoints.get(UUID(job.results["checkpoint"]))
            paths.append(model.disks.layer(point.disks[str(slot)]).path)
        with SimulatedHost(model, engine="powershell", users={USER: Secret(PASSWORD)}) as host:
            print(json.dumps({"url": host.url, "paths": paths, "size": SIZE, "pid": os.getpid()}), flush=True)
            sys.stdin.read()
        model.close()


if __name__ == "__main__":
    main()
