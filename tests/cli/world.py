"""A simulated host with a VM in another process, a repository, and a playbook for both."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .conftest import Done, Hvps, Served

MIB = 1 << 20
DISK_BYTES = 4 * MIB

PLAYBOOK = """\
version: 1
name: test
hosts:
  hv01: {{address: "{url}", user: backup, auth: basic, password: {{file: "{password}"}}}}
repositories:
  main: {{url: "{repository}"}}
plays:
  - name: all
    hosts: [hv01]
    repository: main
    vms: {{include: {vms}}}
    tasks: {tasks}
"""


@dataclass
class World:
    """Host, repository and playbook of a test. Everything is done with commands, as by a user."""

    hvps: Hvps
    served: Served
    folder: Path
    seed: int = 1
    writes: int = 0
    key: tuple[str, ...] = ()
    vm: str = "web01"

    @property
    def repository(self) -> Path:
        """Folder of the repository."""
        return self.folder / "repo"

    def sim(self, *arguments: str | Path) -> Any:
        """The JSON answer of a ``hvps sim`` command; None for those that have none."""
        done = self.hvps("sim", *arguments, "-f", self.served.folder)
        assert done.code == 0, done.err
        return json.loads(done.out) if "--json" in arguments else None

    def build(self, *vms: str) -> None:
        """Create VMs with a disk of random bytes each, and an empty repository; make the host quick."""
        for knob, value in (("job_seconds", "0.01"), ("visibility_seconds", "0"), ("merge_seconds", "0.02")):
            self.sim("knob", knob, value)
        for number, vm in enumerate(vms):
            image = self.folder / f"{number}.raw"
            image.write_bytes(random.Random(self.seed + number).randbytes(DISK_BYTES))
            self.sim("import", vm, image)
        assert self.hvps("repo", "init", self.repository, "--chunk", "64KiB", *self.key).code == 0

    def playbook(
        self, *, vms: str = "", tasks: str = "[backup]", repository: Path | None = None, url: str = ""
    ) -> Path:
        """Write a playbook for this world."""
        path = self.folder / "playbook.yaml"
        path.write_text(
            PLAYBOOK.format(
                url=url or self.served.url,
                password=self.served.folder / "password",
                repository=repository or self.repository,
                vms=vms or json.dumps([self.vm]),
                tasks=tasks,
            )
        )
        return path

    def run(self, *options: str | Path, **playbook: Any) -> Done:
        """Run ``hvps run`` with such a playbook."""
        return self.hvps("run", self.playbook(**playbook), *options)

    def guest_writes(self, vm: str = "") -> None:
        """Change some sectors."""
        self.writes += 1
        offset = random.Random(self.writes).randrange(DISK_BYTES // 4096 - 16) * 4096
        self.sim("write", vm or self.vm, str(offset), "--random", "32KiB", "--seed", str(self.writes))

    def on_host(self, vm: str = "") -> dict[str, Any]:
        """The VM in the simulator: counts of checkpoints and reference points, disks with chains."""
        found = [entry for entry in self.sim("list", "--json")["vms"] if entry["name"] == (vm or self.vm)]
        return dict(found[0])

    def assert_clean(self, vm: str = "") -> None:
        """The host has nothing of hvps except at most one reference point."""
        there = self.on_host(vm)
        assert there["checkpoints"] == 0
        assert there["reference_points"] <= 1
        assert all(len(disk["chain"]) == 1 for disk in there["disks"])

    def points(self) -> list[dict[str, Any]]:
        """Points of the repository, from ``hvps list --json``."""
        done = self.hvps("list", "--repo", self.repository, "--json", *self.key)
        assert done.code == 0, done.err
        return list(json.loads(done.out)["points"])

    def assert_every_point_restores_equal(self) -> int:
        """Each disk of each point equals the image that the simulator kept. Returns the number of points."""
        points = self.points()
        for point in points:
            for disk in point["disks"]:
                target = self.folder / "restored.raw"
                done = self.hvps(
                    *("restore", point["point_id"], "--repo", self.repository, "--to", f"raw:{target}"),
                    *("--disk", str(disk["number"]), "--overwrite", "-q", *self.key),
                )
                assert done.code == 0, done.err
                kept = self.sim("kept", point["checkpoint_id"], "--slot", disk["slot"], "--json")["path"]
                assert target.read_bytes() == Path(kept).read_bytes()
        return len(points)

    def snapshot(self) -> dict[str, bytes]:
        """Every file of the repository with its content."""
        return {
            str(path.relative_to(self.repository)): path.read_bytes()
            for path in sorted(self.repository.rglob("*"))
            if path.is_file()
        }
