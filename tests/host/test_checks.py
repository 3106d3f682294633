"""What a host is asked before a backup and after a failed one."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from hvpsbridge.contract.checks import GroupState, StorageKind
from hvpsbridge.errors import HostRefused
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.psrp.configuration import WinRmLimits
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import ControllerType, Model, Slot
from hvpsbridge.sim.wsman.shells import Quotas
from hvpsbridge.units import MIB
from tests.connections import basic

SLOT = Slot(ControllerType.SCSI, 0, 0)


def a_vm(model: Model, **settings: str) -> UUID:
    vm_id = model.setup.create_vm(f"vm {uuid4()}", **settings).vm_id
    model.setup.add_disk(vm_id, SLOT, size_bytes=5 * MIB)
    return vm_id


def test_an_administrator_has_the_group_and_the_privilege(host: HyperVHost) -> None:
    access = host.checks.access()
    assert (access.administrators, access.volume_privilege) == (GroupState.ENABLED, True)
    assert (access.hyperv_administrators, access.defender_active) == (False, None)


def test_a_disk_in_use_is_opened_for_information_and_not_attached(host: HyperVHost, model: Model) -> None:
    (drive,) = host.disks(a_vm(model))
    assert drive.path is not None
    probe = host.checks.probe_disk(drive.path)
    assert (probe.native, probe.size_bytes) == (None, 5 * MIB)
    assert not model.driver.attached()
    assert host.checks.probe_disk(drive.path + "x").native == 2


def test_the_storage_of_a_vm_has_a_kind(host: HyperVHost, model: Model) -> None:
    (local,) = host.checks.storage(a_vm(model))
    assert (local.root, local.kind, local.file_system) == ("C:\\", StorageKind.NTFS, "NTFS")
    assert local.free_bytes is not None
    (share,) = host.checks.storage(a_vm(model, folder=r"\\Fs01\VMs\a"))
    assert (share.root, share.kind, share.free_bytes) == (r"\\fs01\vms", StorageKind.SMB, None)


def test_the_rate_is_that_of_the_bytes_that_came(host: HyperVHost) -> None:
    sample = host.checks.measure_rate(5 * MIB)
    assert sample.sent_bytes >= 5 * MIB
    assert sample.rate_bytes > 0
    assert host.host_info()


def test_events_are_those_of_the_vm(host: HyperVHost, model: Model) -> None:
    vm_id = a_vm(model)
    assert host.checks.events(vm_id, 60) == ()
    model.faults.arm("checkpoint_no_space")
    model.jobs.wait(model.checkpoints.create(vm_id, name="fails"))
    (event,) = host.checks.events(vm_id, 60)
    assert (event.event_id, event.level) == (18012, 2)
    assert "0x80070070" in event.text


def test_limits_are_the_smaller_of_service_and_endpoint(tmp_path: Path) -> None:
    quotas = Quotas(shells_per_user=25, shell_memory_mb=150, envelope_bytes=150 * 1024, idle_seconds=60)
    with (
        closing(Model(tmp_path / "world")) as model,
        SimulatedHost(model, quotas=quotas) as served,
        HyperVHost.connect(basic(served.url)) as host,
    ):
        limits = host.checks.limits()
        assert (limits.shells_per_user, limits.shell_memory_mb, limits.envelope_kb) == (25, 150, 150)
        assert (limits.idle_ms, limits.operations_per_user) == (60_000, 1500)
        assert limits.run_ms == limits.max_idle_ms == 2_147_483_647
        model.set_knob("shells_per_user", 1)
        model.set_knob("shell_memory_mb", 100)
        assert (host.checks.limits().shells_per_user, host.checks.limits().shell_memory_mb) == (1, 100)
        with pytest.raises(HostRefused):
            host.new_shell()
        model.set_knob("config_unreadable", True)
        assert host.checks.limits() == WinRmLimits()
        assert host.host_info()
