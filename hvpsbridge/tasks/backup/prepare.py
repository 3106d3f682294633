"""Rows 1 to 3: before anything is made. Leftovers are settled, gates waited for, the plan is made."""

from __future__ import annotations

from hvpsbridge.contract.results import CheckpointInfo, DiskInfo, HostInfo, VmInfo
from hvpsbridge.errors import Gated, HostNotClean, NotEligible
from hvpsbridge.formats.manifest import ExcludedDisk
from hvpsbridge.tasks.backup.context import Work
from hvpsbridge.tasks.journal import Journal
from hvpsbridge.tasks.planning.eligibility import (
    Finding,
    examine,
    left_out,
    no_checkpoint_holds,
    refusals,
    takes_part,
    waits,
)
from hvpsbridge.tasks.planning.lineage import Lineage
from hvpsbridge.tasks.planning.mark import has_mark_of
from hvpsbridge.tasks.planning.plan import DiskFacts, VmPlan, plan_disks, slot_of
from hvpsbridge.tasks.planning.space import child_growth
from hvpsbridge.tasks.transfer.guard import short_of_space


class Beginning(Work):
    """Settling, looking and planning."""

    def _settle(self, journal: Journal) -> None:
        left = self._settler(self._host, journal).run()
        if not left:
            return
        self._leftovers = left
        unclean = HostNotClean(self._host.name, self._vm.name, left)
        repository_id = self._repository.repository_id
        if any(has_mark_of(repository_id, one.name) for one in self._host.checkpoints(self._vm.vm_id)):
            # One checkpoint of ours at a time: a second one would pin the first one's chain.
            raise unclean
        self._conditions.append(unclean)

    def _look(self, *, wait: bool) -> tuple[VmInfo, tuple[DiskInfo, ...]]:
        """The VM and its drives once nothing speaks against a backup.

        Raises:
            NotEligible: something does that does not pass.
            Gated: something that passes did not in time.
        """
        until = self._clock() + (self._policy.limits.gate_seconds if wait else 0)
        patient_until = self._clock() + (self._policy.limits.held_merge_seconds if wait else 0)
        told = False
        while True:
            vm = self._host.vms(self._vm.vm_id)[0]
            disks = self._host.disks(vm.vm_id)
            checkpoints = self._host.checkpoints(vm.vm_id)
            gates = self._refuse_unfit(vm, disks, checkpoints, patient=self._clock() < patient_until)
            if not gates:
                return vm, disks
            lasting = [finding for finding in gates if not finding.may_pass]
            if lasting and self._clock() >= until:
                raise Gated(vm.name, str(lasting[0]))
            if not told:
                self._note(f"waiting: {gates[0].text}")
                told = True
            self._around.cancel.pause(self._policy.limits.poll_seconds)

    def _refuse_unfit(
        self,
        vm: VmInfo,
        disks: tuple[DiskInfo, ...],
        checkpoints: tuple[CheckpointInfo, ...] | None,
        *,
        patient: bool = False,
    ) -> tuple[Finding, ...]:
        """What has to be waited for; anything graver is raised, but for what may pass while ``patient``."""
        self._findings = examine(
            vm, disks, checkpoints, self._repository.repository_id, self._policy.exclude_disks
        )
        refused = refusals(self._findings)
        passing = tuple(finding for finding in refused if patient and finding.may_pass)
        if len(refused) > len(passing):
            raise NotEligible(vm.name, str(next(one for one in refused if one not in passing)))
        return passing + waits(self._findings)

    def _decide(self, vm: VmInfo, disks: tuple[DiskInfo, ...], info: HostInfo, lineage: Lineage) -> VmPlan:
        """The plan, told to the observer.

        Raises:
            HostNoSpace: a volume has no room for what the checkpoint may take.
        """
        exclude = self._policy.exclude_disks
        drives, out = takes_part(disks, exclude), left_out(disks, exclude)
        self._ignore_disks = any(no_checkpoint_holds(disk) for disk, _ in out)
        excluded = [disk for disk, _ in out]
        decided = plan_disks(
            vm,
            map(DiskFacts.of_drive, drives),
            lineage,
            os_build=info.os_build,
            reference_points=[point.instance_id for point in self._host.reference_points(vm.vm_id)],
            force_compare=self._policy.force_compare,
            excluded=excluded,
        )
        self._volumes = volumes = self._host.volumes(vm.vm_id)
        paths = {slot_of(drive): drive.path or "" for drive in drives}
        growth = child_growth(decided, paths, volumes, lineage, excluded)
        self._vm = vm
        self._plan = VmPlan(
            vm,
            decided,
            growth,
            tuple(
                ExcludedDisk(slot_of(disk), disk.disk_id, disk.path, disk.size_bytes, pattern)
                for disk, pattern in out
            ),
        )
        self._around.observer.planned(self._ref, self._plan)
        short = short_of_space(vm.name, volumes, self._policy.limits.free_space_floor_bytes, growth)
        if short is not None:
            raise short
        return self._plan
