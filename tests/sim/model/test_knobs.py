"""Every knob does what it says. A knob without a case here fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.formats import vhdx
from hvpsbridge.formats.extents import Extent
from hvpsbridge.sim.file_tables import file_table
from hvpsbridge.sim.model import (
    HOSTILE,
    ControllerType,
    DiskError,
    HyperVError,
    Knobs,
    ManualClock,
    Model,
    Slot,
    SnapshotType,
)
from hvpsbridge.sim.model.faults import MODEL_FAULTS
from hvpsbridge.sim.model.knobs import HOSTILE_TO_RESTORES
from hvpsbridge.sim.model.state import JobState, VhdFormat, VMState
from hvpsbridge.sim.standin.provider import Provider
from hvpsbridge.sim.standin.rows import Rows
from hvpsbridge.units import KIB, MIB

ALL_HOSTILE = HOSTILE | HOSTILE_TO_RESTORES
SLOT = Slot(ControllerType.SCSI, 0, 0)
SIZE = 8 * MIB


class Lab:
    """A world with one VM, and short ways to what the cases need."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.model = Model(folder, clock=self.clock, seed=11)
        self.model.knobs.over_report = 0.0
        self.vm = self.model.setup.create_vm("web01").vm_id
        self.model.setup.add_disk(self.vm, SLOT, size_bytes=SIZE)
        self.folder = folder

    def checkpoint(self, kind: SnapshotType = SnapshotType.Recovery) -> UUID:
        job = self.model.checkpoints.create(self.vm, kind=kind)
        self.clock.advance(0.5)
        self.model.jobs.all()
        return UUID(job.results["checkpoint"])

    def path(self, checkpoint_id: UUID) -> str:
        return self.model.disks.layer(self.model.checkpoints.get(checkpoint_id).disks[str(SLOT)]).path

    def base(self) -> str:
        """An id sealed by a first backup, which has ended."""
        point = self.checkpoint()
        recent = self.model.driver.tracking_state(self.path(point))[2]
        self.convert(point)
        assert recent
        return recent

    def convert(self, checkpoint_id: UUID) -> list[str]:
        job = self.model.checkpoints.convert(checkpoint_id)
        self.clock.advance(5.0)
        self.model.jobs.all()
        return next(
            point.rct_ids
            for point in self.model.reference_points.all(self.vm)
            if point.instance_id == job.results["reference_point"]
        )

    def write(self, offset: int = 0, length: int = 4096) -> None:
        self.model.guests.write(self.vm, SLOT, offset, b"w" * length)

    def ask(self, rct_id: str, offset: int = 0) -> tuple[int, tuple[Extent, ...]]:
        answer = self.model.driver.query_changes(self.path(self.checkpoint()), rct_id, offset, SIZE - offset)
        return answer.processed_bytes, answer.extents


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.model.close()


def job_seconds(lab: Lab) -> None:
    lab.model.knobs.job_seconds = 10.0
    job = lab.model.checkpoints.create(lab.vm)
    seen = []
    for _ in range(4):
        seen.append(lab.model.jobs.progress(job)[0])
        lab.clock.advance(3.0 if seen[-1] is not JobState.New else 1.5)
        lab.model.jobs.all()
    assert seen == [JobState.New, JobState.Starting, JobState.Running, JobState.Running]
    lab.clock.advance(3.0)
    lab.model.jobs.all()
    assert lab.model.jobs.progress(job) == (JobState.Completed, 100)


def job_lifetime_seconds(lab: Lab) -> None:
    lab.model.knobs.job_lifetime_seconds = 7.0
    job = lab.model.checkpoints.create(lab.vm)
    lab.clock.advance(6.0)
    assert lab.model.jobs.get(job.job_id).done
    lab.clock.advance(2.0)
    with pytest.raises(HyperVError):
        lab.model.jobs.get(job.job_id)


def job_vanishes(lab: Lab) -> None:
    lab.model.knobs.job_vanishes = True
    job = lab.model.checkpoints.create(lab.vm)
    lab.clock.advance(1.0)
    with pytest.raises(HyperVError):
        lab.model.jobs.get(job.job_id)
    assert len(lab.model.checkpoints.all(lab.vm)) == 1


def jobs_at_once(lab: Lab) -> None:
    lab.model.knobs.jobs_at_once = True
    assert lab.model.checkpoints.create(lab.vm).done


def visibility_seconds(lab: Lab) -> None:
    lab.model.knobs.visibility_seconds = 9.0
    lab.checkpoint()
    assert not lab.model.checkpoints.all(lab.vm)
    lab.clock.advance(9.0)
    assert lab.model.checkpoints.all(lab.vm)


def merge_seconds(lab: Lab) -> None:
    lab.model.knobs.merge_seconds = 30.0
    lab.convert(lab.checkpoint())
    assert lab.model.vms.status(lab.vm) == (2, 32772)
    with pytest.raises(HyperVError) as busy:
        lab.model.checkpoints.create(lab.vm)
    assert busy.value.code == 32774
    lab.clock.advance(30.0)
    assert lab.model.vms.status(lab.vm) == (2,)


def merge_bytes_per_second(lab: Lab) -> None:
    lab.model.knobs.merge_bytes_per_second = 64 * KIB
    point = lab.checkpoint()
    lab.write(0, MIB)
    lab.convert(point)
    assert lab.model.vms.status(lab.vm) == (2, 32772)
    lab.clock.advance(16.0)
    assert lab.model.vms.status(lab.vm) == (2,)


def merge_retry_seconds(lab: Lab) -> None:
    lab.model.knobs.merge_retry_seconds = 0.0
    lab.model.faults.arm("merge_fails")
    lab.convert(lab.checkpoint())
    lab.clock.advance(1000.0)
    assert len(lab.model.disks.chain(lab.model.disks.drives(lab.vm)[0].layer or 0)) == 2
    assert [event.event_id for event in lab.model.nodes.events()] == [19070, 19100]


def _files(lab: Lab) -> int:
    return len(lab.model.disks.chain(lab.model.disks.drives(lab.vm)[0].layer or 0))


def merge_retry_at_start(lab: Lab) -> None:
    lab.model.knobs.merge_retry_at_start = True
    lab.model.faults.arm("merge_fails")
    lab.convert(lab.checkpoint())
    lab.clock.advance(1000.0)
    lab.model.vms.set_state(lab.vm, "stop")
    assert _files(lab) == 2
    lab.model.vms.set_state(lab.vm, "start")
    assert _files(lab) == 1


def merge_delay_seconds(lab: Lab) -> None:
    lab.model.knobs.merge_delay_seconds = 30.0
    lab.model.knobs.merge_seconds = 30.0
    lab.convert(lab.checkpoint())
    assert (_files(lab), lab.model.vms.status(lab.vm)) == (2, (2,))
    lab.clock.advance(30.0)
    assert (_files(lab), lab.model.vms.status(lab.vm)) == (2, (2, 32772))
    lab.clock.advance(30.0)
    assert (_files(lab), lab.model.vms.status(lab.vm)) == (1, (2,))


def one_recovery_checkpoint(lab: Lab) -> None:
    lab.model.knobs.one_recovery_checkpoint = True
    lab.checkpoint(SnapshotType.Standard)
    point = lab.checkpoint()
    with pytest.raises(HyperVError) as refused:
        lab.model.checkpoints.create(lab.vm)
    assert refused.value.code == 32774
    lab.convert(point)
    lab.checkpoint()


def texts_without_codes(lab: Lab) -> None:
    for language in ("en", "de", "ja"):
        lab.model.knobs.language = language
        texts = []
        for knob in (False, True):
            lab.model.knobs.texts_without_codes = knob
            lab.model.faults.arm("checkpoint_file_locked")
            job = lab.model.checkpoints.create(lab.vm)
            lab.clock.advance(1.0)
            lab.model.jobs.all()
            texts.append(job.error_text)
        assert [text.endswith("(0x80070020)") for text in texts] == [True, False]


def call_seconds(lab: Lab) -> None:
    lab.model.knobs.call_seconds = 0.5
    waited: list[float] = []
    lab.model.calls.cmdlet("Get-VM", pause=waited.append)
    lab.model.calls.function("CreateFile", "x", waited.append)
    assert waited == [0.5, 0.5]


def memory_granularity_bytes(lab: Lab) -> None:
    lab.model.knobs.memory_granularity_bytes = 128 * KIB
    base = lab.base()
    lab.write(4096)
    assert lab.ask(base)[1] == (Extent(0, 128 * KIB),)


def rct_granularity_bytes(lab: Lab) -> None:
    lab.model.knobs.rct_granularity_bytes = 512 * KIB
    base = lab.base()
    lab.write(4096)
    lab.model.vms.set_state(lab.vm, "stop")
    assert lab.ask(base)[1] == (Extent(0, 512 * KIB),)


def mrt_granularity_bytes(lab: Lab) -> None:
    lab.model.knobs.mrt_granularity_bytes = 4 * MIB
    base = lab.base()
    lab.write(4096)
    lab.model.vms.set_state(lab.vm, "power_off")
    assert lab.ask(base)[1] == (Extent(0, 4 * MIB),)


def over_report(lab: Lab) -> None:
    lab.model.knobs.over_report = 1.0
    base = lab.base()
    lab.write(0)
    assert sum(extent.length for extent in lab.ask(base)[1]) > 32 * KIB


def unsorted_answers(lab: Lab) -> None:
    lab.model.knobs.unsorted_answers = True
    base = lab.base()
    for number in range(20):
        lab.write(number * 256 * KIB)
    ranges = lab.ask(base)[1]
    assert list(ranges) != sorted(ranges)
    assert len(ranges) == 20


def ranges_per_page(lab: Lab) -> None:
    lab.model.knobs.ranges_per_page = 2
    base = lab.base()
    for number in range(5):
        lab.write(number * MIB)
    assert lab.ask(base) == (2 * MIB, (Extent(0, 32 * KIB), Extent(MIB, 32 * KIB)))


def pages_bytes(lab: Lab) -> None:
    lab.model.knobs.pages_bytes = 3 * MIB
    base = lab.base()
    lab.write(4 * MIB)
    assert lab.ask(base) == (3 * MIB, ())


def range_past_end(lab: Lab) -> None:
    lab.model.knobs.range_past_end = True
    base = lab.base()
    lab.write(SIZE - 4096)
    assert lab.ask(base)[1][-1].end > SIZE


def vhd_busy_while_merging(lab: Lab) -> None:
    lab.model.knobs.vhd_busy_while_merging = True
    lab.model.knobs.merge_seconds = 60.0
    point = lab.checkpoint()
    child = lab.model.disks.drives(lab.vm)[0].layer
    assert child is not None
    lab.model.disks.check_busy(child)
    lab.convert(point)
    with pytest.raises(HyperVError) as refused:
        lab.model.disks.check_busy(child)
    assert (refused.value.identifier, refused.value.category) == ("ObjectInUse", "ResourceBusy")


def names_refused(lab: Lab) -> None:
    lab.model.knobs.names_refused = True
    point = lab.checkpoint()
    with pytest.raises(HyperVError):
        lab.model.checkpoints.rename(point, "mine")


def new_id_at_conversion(lab: Lab) -> None:
    lab.model.knobs.new_id_at_conversion = True
    point = lab.checkpoint()
    frozen = lab.model.driver.tracking_state(lab.path(point))[2]
    assert lab.convert(point) != [frozen]


def conversion_drops_disk(lab: Lab) -> None:
    lab.model.knobs.conversion_drops_disk = True
    assert lab.convert(lab.checkpoint()) == []


def reference_point_arrays_differ(lab: Lab) -> None:
    lab.model.knobs.reference_point_arrays_differ = True
    assert len(lab.convert(lab.checkpoint())) == 1
    (point,) = lab.model.reference_points.all(lab.vm)
    assert len(point.disks) == 2


def _refused(lab: Lab, base: str) -> bool:
    try:
        lab.ask(base)
    except DiskError:
        return True
    return False


def ids_die_on_user_checkpoint(lab: Lab) -> None:
    base = lab.base()
    lab.model.knobs.ids_die_on_user_checkpoint = True
    lab.checkpoint(SnapshotType.Standard)
    assert _refused(lab, base)


def ids_differ_on_children(lab: Lab) -> None:
    base = lab.base()
    lab.model.knobs.ids_differ_on_children = True
    lab.checkpoint(SnapshotType.Standard)
    assert _refused(lab, base)


def ids_survive_apply(lab: Lab) -> None:
    lab.model.knobs.ids_survive_apply = True
    user = lab.checkpoint(SnapshotType.Standard)
    lab.write(0)
    base = lab.base()
    lab.model.checkpoints.apply(user)
    lab.clock.advance(5.0)
    # What the abandoned branch had written differs now, and is not said.
    assert lab.ask(base)[1] == ()


def ids_die_on_migration(lab: Lab) -> None:
    lab.model.knobs.ids_die_on_migration = True
    lab.model.setup.add_node("HV02")
    base = lab.base()
    lab.model.incidents.migrate(lab.vm, "HV02")
    assert _refused(lab, base)


def ids_die_on_move(lab: Lab) -> None:
    lab.model.knobs.ids_die_on_move = True
    base = lab.base()
    lab.model.setup.move_disk(lab.vm, SLOT, "C:\\Elsewhere")
    assert _refused(lab, base)


def empty_answers(lab: Lab) -> None:
    base = lab.base()
    lab.model.knobs.empty_answers = True
    lab.write(0)
    assert lab.ask(base) == (SIZE, ())


def missing_changes(lab: Lab) -> None:
    base = lab.base()
    for number in range(16):
        lab.write(number * 512 * KIB)
    lab.model.knobs.missing_changes = 0.5
    assert 0 < len(lab.ask(base)[1]) < 16


def unmap_unreported(lab: Lab) -> None:
    lab.write(0)
    base = lab.base()
    lab.model.knobs.unmap_unreported = True
    lab.model.guests.unmap(lab.vm, SLOT, 0, 4096)
    assert lab.ask(base)[1] == ()
    assert lab.model.guests.read(lab.vm, SLOT, 0, 4096) == bytes(4096)


def unmap_keeps_data(lab: Lab) -> None:
    lab.model.knobs.unmap_keeps_data = True
    lab.write(0)
    lab.model.guests.unmap(lab.vm, SLOT, 0, 4096)
    assert lab.model.guests.read(lab.vm, SLOT, 0, 4096) == b"w" * 4096
    assert lab.model.golden.live(lab.vm, SLOT).read_bytes()[:4096] == b"w" * 4096


def power_loss_forgets(lab: Lab) -> None:
    base = lab.base()
    lab.model.knobs.power_loss_forgets = True
    lab.write(0)
    lab.model.vms.set_state(lab.vm, "power_off")
    assert lab.ask(base)[1] == ()


def newer_changes(lab: Lab) -> None:
    lab.model.knobs.newer_changes = True
    assert lab.model.driver.tracking_state(lab.path(lab.checkpoint()))[1]


def info_without_id(lab: Lab) -> None:
    lab.model.knobs.info_without_id = True
    assert lab.model.driver.tracking_state(lab.path(lab.checkpoint())) == (True, False, None)


def _code(ask: Callable[[], object]) -> int:
    with pytest.raises(DiskError) as refused:
        ask()
    return refused.value.code


def _answers(lab: Lab, path: str, rct_id: str = "rctX:1") -> dict[str, int]:
    """Code of version 15 and of a query on either kind of handle; 0 for an answer."""
    driver = lab.model.driver
    found = {}
    for kind, info_only in (("attached", False), ("info_only", True)):
        handle = driver.open(path, "test", info_only=info_only)
        if not info_only:
            driver.attach(handle)
        for what, ask in (
            ("state", partial(driver.asked_state, handle)),
            ("query", partial(driver.asked_changes, handle, rct_id, 0, SIZE)),
        ):
            try:
                ask()
                found[f"{kind} {what}"] = 0
            except DiskError as err:
                found[f"{kind} {what}"] = err.code
        driver.close(handle)
    return {name: code for name, code in found.items() if code}


def attached_refusal(lab: Lab) -> None:
    base = lab.base()
    lab.model.knobs.attached_refusal = 5
    assert _answers(lab, lab.path(lab.checkpoint()), base) == {"attached state": 5, "attached query": 5}


def info_only_refusal(lab: Lab) -> None:
    base = lab.base()
    lab.model.knobs.info_only_refusal = 5
    assert _answers(lab, lab.path(lab.checkpoint()), base) == {"info_only state": 5, "info_only query": 5}


def state_refusal(lab: Lab) -> None:
    base = lab.base()
    lab.model.knobs.state_refusal = 5
    assert _answers(lab, lab.path(lab.checkpoint()), base) == {"attached state": 5, "info_only state": 5}


def query_refusal(lab: Lab) -> None:
    base = lab.base()
    lab.model.knobs.query_refusal = 5
    assert _answers(lab, lab.path(lab.checkpoint()), base) == {"attached query": 5, "info_only query": 5}


def vhd_state_refusal(lab: Lab) -> None:
    lab.model.knobs.vhd_state_refusal = 0xC03A001B
    vm_id = lab.model.setup.create_vm("old").vm_id
    path = "C:\\old.vhd"
    lab.model.setup.add_disk(vm_id, SLOT, size_bytes=SIZE, format=VhdFormat.VHD, path=path)
    assert _code(lambda: lab.model.driver.asked_state(lab.model.driver.open(path, "test"))) == 0xC03A001B
    lab.model.driver.asked_state(lab.model.driver.open(lab.path(lab.checkpoint()), "test"))


def files_held(lab: Lab) -> None:
    lab.model.knobs.files_held = True
    assert _code(lambda: file_table(lab.model, lab.path(lab.checkpoint()), lab.folder / "scratch")) == 32


def detach_seconds(lab: Lab) -> None:
    lab.model.knobs.detach_seconds = 4.0
    driver, path = lab.model.driver, lab.path(lab.checkpoint())
    first, second = driver.open(path, "test"), driver.open(path, "test")
    driver.attach(first)
    driver.detach(first)
    driver.close(first)
    driver.attach(second)
    driver.close(second)
    third = driver.open(path, "test")
    assert _code(lambda: driver.attach(third)) == 0xC03A001E
    lab.clock.advance(4.0)
    driver.attach(third)


def frozen_log(lab: Lab) -> None:
    lab.model.knobs.frozen_log = True
    table = file_table(lab.model, lab.path(lab.checkpoint()), lab.folder / "scratch")
    assert vhdx.VhdxHeader.unpack(table.read(vhdx.HEADER_OFFSETS[1], 4096)).log_guid.int
    table.close()


def _wmi(lab: Lab, length: int) -> int:
    keys = {
        "CreationClassName": "Msvm_ImageManagementService",
        "Name": "ImageManagementService",
        "SystemCreationClassName": "Msvm_ComputerSystem",
        "SystemName": "HV01",
    }
    base = lab.base()
    asked = {"Path": lab.path(lab.checkpoint()), "LimitId": base, "ByteOffset": 0, "ByteLength": length}
    said = Provider(lab.model, None).invoke(
        "Msvm_ImageManagementService", keys, "GetVirtualDiskChanges", asked
    )
    return int(said["values"]["ReturnValue"])


def wmi_changes_as_job(lab: Lab) -> None:
    lab.model.knobs.wmi_changes_as_job = True
    assert _wmi(lab, SIZE) == 4096


def wmi_length_below_size(lab: Lab) -> None:
    lab.model.knobs.wmi_length_below_size = True
    assert _wmi(lab, SIZE) == 32773
    lab.model.checkpoints.remove(lab.model.checkpoints.all(lab.vm)[0].checkpoint_id)
    lab.clock.advance(5.0)
    assert _wmi(lab, SIZE - 512) == 0


def no_volume_privilege(lab: Lab) -> None:
    lab.model.knobs.no_volume_privilege = True
    handle = lab.model.driver.open(lab.path(lab.checkpoint()), "test")
    with pytest.raises(DiskError) as refused:
        lab.model.driver.attach(handle)
    assert refused.value.code == 1314


def rights(lab: Lab) -> None:
    lab.model.knobs.rights = "filtered"
    handle = lab.model.driver.open(lab.path(lab.checkpoint()), "test")
    with pytest.raises(DiskError) as refused:
        lab.model.driver.attach(handle)
    assert refused.value.code == 1314


def smb_without_delegation(lab: Lab) -> None:
    lab.model.knobs.smb_without_delegation = True
    vm_id = lab.model.setup.create_vm("shared", folder=r"\\fs01\vms\shared").vm_id
    lab.model.setup.add_disk(vm_id, SLOT, size_bytes=SIZE)
    (drive,) = lab.model.disks.drives(vm_id)
    assert drive.layer is not None
    with pytest.raises(DiskError) as refused:
        lab.model.driver.open(lab.model.disks.layer(drive.layer).path, "test")
    assert refused.value.code == 5
    assert lab.model.driver.open(lab.path(lab.checkpoint()), "test")


def short_reads(lab: Lab) -> None:
    lab.model.knobs.short_reads = 1.0
    handle = lab.model.driver.open(lab.path(lab.checkpoint()), "test")
    lab.model.driver.attach(handle)
    assert len(lab.model.driver.read(handle, 0, 4096)) == 4096 - 512


def _instances(lab: Lab, class_name: str) -> list[object]:
    return list(Provider(lab.model, None).instances(class_name, "root/virtualization/v2")["rows"])


def no_merge_settings(lab: Lab) -> None:
    assert len(_instances(lab, "Msvm_DiskMergeSettingData")) == 1
    lab.model.knobs.no_merge_settings = True
    assert not _instances(lab, "Msvm_DiskMergeSettingData")


def no_security_settings(lab: Lab) -> None:
    assert len(_instances(lab, "Msvm_SecuritySettingData")) == 1
    lab.model.knobs.no_security_settings = True
    assert not _instances(lab, "Msvm_SecuritySettingData")


def disabled_refuses_backups(lab: Lab) -> None:
    lab.model.setup.change_vm(lab.vm, checkpoint_type="disabled")
    lab.model.checkpoints.remove(lab.checkpoint())
    lab.clock.advance(5.0)
    lab.model.knobs.disabled_refuses_backups = True
    with pytest.raises(HyperVError) as refused:
        lab.model.checkpoints.create(lab.vm)
    assert refused.value.code == 32775


def conversion_status(lab: Lab) -> None:
    point = lab.checkpoint()
    lab.model.knobs.conversion_status = 32776
    lab.model.checkpoints.convert(point)
    assert lab.model.vms.status(lab.vm) == (2, 32776)


def operational_status(lab: Lab) -> None:
    assert lab.model.vms.status(lab.vm) == (2,)
    lab.model.knobs.operational_status = 32771
    assert lab.model.vms.status(lab.vm) == (2, 32771)
    lab.model.checkpoints.create(lab.vm)
    assert lab.model.vms.status(lab.vm) == (2, 32768)


def heartbeat_seconds(lab: Lab) -> None:
    rows = Rows(lab.model, None)
    assert rows.heartbeat(lab.model.vms.get(lab.vm)) == 6
    lab.model.knobs.heartbeat_seconds = 1e9
    assert rows.heartbeat(lab.model.vms.get(lab.vm)) == 2
    lab.model.vms.set_state(lab.vm, "stop")
    assert rows.heartbeat(lab.model.vms.get(lab.vm)) is None


def guest_stops(lab: Lab) -> None:
    lab.model.vms.set_state(lab.vm, "stop")
    lab.model.knobs.guest_stops = True
    lab.model.vms.set_state(lab.vm, "start")
    assert lab.model.vms.get(lab.vm).state is VMState.Off


def attached_flush_refusal(lab: Lab) -> None:
    handle = lab.model.driver.open(lab.path(lab.checkpoint()), "test")
    lab.model.driver.attach(handle)
    lab.model.driver.flush(handle)
    lab.model.knobs.attached_flush_refusal = 50
    with pytest.raises(DiskError) as refused:
        lab.model.driver.flush(handle)
    assert refused.value.code == 50


def ids_die_on_rename(lab: Lab) -> None:
    rct_id = lab.base()
    lab.model.vms.set_state(lab.vm, "stop")
    layer = lab.model.disks.drives(lab.vm)[0].layer
    assert layer is not None
    there = lab.model.disks.layer(layer).path
    away = there.replace(".vhdx", ".away.vhdx")

    def renamed() -> None:
        lab.model.host_files.move(there, away)
        lab.model.host_files.move(away, there)

    renamed()
    lab.model.driver.query_changes(there, rct_id, 0, SIZE)
    lab.model.knobs.ids_die_on_rename = True
    renamed()
    with pytest.raises(DiskError):
        lab.model.driver.query_changes(there, rct_id, 0, SIZE)


def language(lab: Lab) -> None:
    lab.model.knobs.language = "de"
    with pytest.raises(HyperVError, match="nicht gefunden"):
        lab.model.checkpoints.get(UUID(int=5))


CASES: dict[str, Callable[[Lab], None]] = {
    case.__name__: case
    for case in list(vars().values())
    if callable(case) and getattr(case, "__name__", "") in {field.name for field in fields(Knobs)}
}
# Seen in the library only: tests/sim/test_native.py.
IN_THE_LIBRARY = {"read_delay_seconds", "read_sync"}
# Seen in whole backups: tests/tasks/test_backup_ids.py.
IN_BACKUPS = {"new_id_of_freeze", "frozen_id_of_last_point", "tracking_starts_at_conversion"}
# Seen in clusters: tests/sim/model/test_clusters.py.
IN_CLUSTERS = {"role_seconds", "role_notices_seconds", "role_returns_seconds"}
# Seen in shells and by WSMan only: tests/contract/test_engines_agree.py, tests/host/test_checks.py and
# tests/sim/test_wsman_replies.py.
IN_SESSIONS = {
    "language_mode",
    "config_unreadable",
    "shells_per_user",
    "shell_memory_mb",
    "defender",
    "reply_bytes",
    "unread_bytes",
}


PAGE = (Path(__file__).parents[3] / "docs" / "simulated-host.md").read_text()


def test_every_fault_of_the_model_is_documented_in_its_own_words() -> None:
    assert [name for name, what in MODEL_FAULTS.items() if f"| `{name}` | {what} |" not in PAGE] == []


def test_every_knob_has_a_case_and_is_documented() -> None:
    names = {field.name for field in fields(Knobs)}
    assert names == CASES.keys() | IN_THE_LIBRARY | IN_BACKUPS | IN_CLUSTERS | IN_SESSIONS
    assert ALL_HOSTILE.keys() <= names
    assert [name for name in sorted(names) if f"`{name}`" not in PAGE] == []


@pytest.mark.parametrize("name", CASES)
def test_a_knob_does_what_it_says(lab: Lab, name: str) -> None:
    CASES[name](lab)


@pytest.mark.parametrize("name", ALL_HOSTILE)
def test_a_hostile_setting_is_not_the_default_and_can_be_set_as_text(name: str) -> None:
    knobs = Knobs()
    assert getattr(knobs, name) != ALL_HOSTILE[name]
    knobs.set(name, str(ALL_HOSTILE[name]))
    assert getattr(knobs, name) == ALL_HOSTILE[name]


@pytest.mark.parametrize(
    ("name", "value"), [("gravity", 1), ("merge_seconds", "soon"), ("job_vanishes", "maybe")]
)
def test_what_is_no_knob_or_does_not_fit_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match="knob"):
        Knobs().set(name, value)
