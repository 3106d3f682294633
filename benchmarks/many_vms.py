"""Peak memory and time of one run over many small VMs, compared with a run over one.

    python benchmarks/many_vms.py [--vms 500] [--forks 4] [--folder DIR]

The host is simulated, in another process than hvps. Each VM has one disk of 256 KiB. Prints a table and, on
its last line, the same as JSON. Exits 1 when the run over all VMs needs more than 1.5 times the memory of the
run over one.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import _processes

from hvpsbridge.secret import Secret
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import Model
from hvpsbridge.sim.model.state import Slot
from hvpsbridge.units import KIB, MIB, duration_text, size_text

MOST_TIMES = 1.5
DISK_BYTES = 256 * KIB
PASSWORD = "HVPS_PASSWORD"
KNOBS = {"job_seconds": 0.0, "visibility_seconds": 0.0, "merge_seconds": 0.0}
PLAYBOOK = """\
version: 1
name: many
forks: {forks}
hosts:
  host: {{address: "{url}", user: backup, auth: basic, password: {{env: {password}}}}}
repositories:
  main: {{url: "{repository}"}}
plays:
  - name: all
    hosts: [host]
    repository: main
    vms: {{include: ["{pattern}"]}}
    tasks: [{{backup: {{limits: {{free_space_floor: 1MiB}}}}}}]
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A run."""

    vms: int
    seconds: float
    peak_bytes: int


def measure(folder: Path, url: str, pattern: str, forks: int) -> Row:
    """Run a playbook over the VMs whose names match, into a new repository."""
    repository, playbook = folder / f"repository-{forks}-{len(pattern)}", folder / "playbook.yaml"
    _processes.hvps("repo", "init", repository, "--plain", "--json")
    playbook.write_text(
        PLAYBOOK.format(url=url, password=PASSWORD, repository=repository, pattern=pattern, forks=forks)
    )
    done = _processes.hvps("run", playbook, "--json", "--quiet")
    return Row(len(done.document["tasks"]), done.seconds, done.peak_bytes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vms", type=int, default=500, help="number of VMs")
    parser.add_argument("--forks", type=int, default=4, help="VMs at a time")
    parser.add_argument("--folder", type=Path, help="folder to work in; a temporary one by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hvps-bench-", dir=options.folder) as temporary:
        place = Path(temporary)
        (place / "config.yaml").write_text("{}\n")
        # Do not use the user's configuration and cache, and put no password on a command line.
        os.environ |= {
            PASSWORD: secrets.token_urlsafe(18),
            "HVPS_CONFIG": str(place / "config.yaml"),
            "XDG_CACHE_HOME": str(place / "cache"),
        }
        model = Model(place / "hyper-v", seed=1, keep_images=False)
        for name, value in KNOBS.items():
            model.set_knob(name, value)
        slot = Slot.parse("scsi0:0")
        for number in range(options.vms):
            vm = model.setup.create_vm(f"vm{number:04}")
            model.setup.add_disk(vm.vm_id, slot, size_bytes=DISK_BYTES, block_bytes=MIB)
            model.guests.write(vm.vm_id, slot, 0, number.to_bytes(2, "big") * 2048)
        users = {"backup": Secret(os.environ[PASSWORD])}
        # In this process, whose memory does not count, and without the state file of `hvps sim serve`, which
        # is written after every step.
        with SimulatedHost(model, users=users) as host:
            rows = [measure(place, host.url, pattern, options.forks) for pattern in ("vm0000", "vm*")]
        model.close()
    for row in rows:
        print(f"{row.vms:5} VMs  {duration_text(row.seconds):>12}  peak memory {size_text(row.peak_bytes)}")
    times = rows[-1].peak_bytes / rows[0].peak_bytes
    print(f"{times:.2f} times the memory of one VM, limit {MOST_TIMES}")
    print(json.dumps([asdict(row) for row in rows]))
    return 0 if times <= MOST_TIMES else 1


if __name__ == "__main__":
    sys.exit(main())
