"""A world behind a simulated host: backups over real WSMan and PSRP, in this process or another one."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.receiver.throttling import ByteBudget
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.tasks import backup
from hvpsbridge.tasks.backup.results import BackupResult
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.observer import Observer
from hvpsbridge.tasks.planning.modes import Mode
from hvpsbridge.tasks.policy import BackupOptions
from hvpsbridge.units import MIB
from tests.forked import Forked
from tests.tasks import backup_process
from tests.tasks.backup_process import connection
from tests.tasks.world import QUICK, World

ROOT = Path(__file__).resolve().parents[2]


class WireWorld(World):
    """A world that is reached over the wire."""

    def __init__(self, folder: Path, engine: str = "builtin", seed: int = 1, jea: Path | None = None) -> None:
        super().__init__(folder, seed)
        self.server = SimulatedHost(self.model, engine=engine, jea=jea)
        self._jea = None if jea is None else jea.name
        self.server.__enter__()

    def close(self) -> None:
        self.server.__exit__(None, None, None)
        super().close()

    def connect(self, run_id: UUID) -> HyperVHost:
        return HyperVHost.connect(replace(connection(self.server.url), jea=self._jea), run_id=run_id)

    def backup(  # type: ignore[override]
        self,
        vm_id: UUID,
        *,
        policy: BackupOptions = QUICK,
        observer: Observer | None = None,
        cancel: Cancellation | None = None,
    ) -> BackupResult:
        run_id = uuid4()
        with self.connect(run_id) as host:
            context = backup.BackupContext(
                host=host,
                vm_id=vm_id,
                vm_name=host.vm(vm_id).name,
                options=policy,
                repository=self.repository,
                run_id=run_id,
                observer=observer or Observer(),
                cancel=cancel or Cancellation(),
                budget=ByteBudget(16 * MIB),
                connect=lambda: self.connect(run_id),
            )
            return backup.run(context)

    def struck(
        self, vm_id: UUID, step: str, moment: str, signal_name: str
    ) -> subprocess.CompletedProcess[str]:
        """A backup in a process of its own that gets a signal at a step, once it has ended."""
        process = self.start(vm_id, step, moment, signal_name)
        said, complained = process.communicate()
        assert process.returncode is not None
        return subprocess.CompletedProcess((step, moment), process.returncode, said, complained)

    def start(self, vm_id: UUID, step: str, moment: str, signal_name: str) -> Forked:
        """A backup in a process of its own, under way; it gets a signal at a step."""
        order = {
            "url": self.server.url,
            "store": str(self.store),
            "vm": str(vm_id),
            "step": step,
            "moment": moment,
            "signal": signal_name,
        }
        return Forked(backup_process.main, order)


def full_and_increments(
    world: WireWorld, rounds: int, sizes: tuple[int, ...] = (4 * MIB, 3 * MIB + 512), **options: object
) -> None:
    """One full and ``rounds`` increments; every point is compared with its golden image."""
    vm_id = world.vm(disks=sizes)
    modes = []
    for _ in range(rounds + 1):
        done = world.good_backup(vm_id, policy=replace(QUICK, **options))  # type: ignore[arg-type]
        modes.append({disk.mode for disk in done.disks})
        for drive in world.model.disks.drives(vm_id):
            world.churn(vm_id, drive.slot)
    assert modes == [{Mode.FULL}] + [{Mode.INCREMENTAL}] * rounds
    assert world.assert_points_equal(vm_id) == rounds + 1
