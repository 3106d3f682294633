"""A definition that cannot be read whole is a warning that names what is missing, never a lost backup."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.errors import ExitCode, HostError, OperationFailed, OperationTimedOut, VmNotFound
from hvpsbridge.formats.definition import missing_sections, without_sections
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.restore.task import TASK, RestoreOptions, restore_vm
from hvpsbridge.units import MIB
from tests.tasks.world import World

SECTIONS = {
    "Get-VMProcessor": "processor",
    "Get-VMMemory": "memory",
    "Get-VMFirmware": "firmware",
    "Get-VMSecurity": "security",
    "Get-VMKeyProtector": "key_protector",
    "Get-VMIntegrationService": "integration_services",
    "Get-VMNetworkAdapter": "network",
    "Get-VMNetworkAdapterVlan": "vlan",
    "Get-VMScsiController": "scsi_controllers",
    "Get-VMDvdDrive": "dvd",
    "Get-VMHardDiskDrive": "disks",
}
DEFINITION = "Get-HvpsVmDefinition"


def lines(world: World, vm_id: UUID, folder: Path) -> str:
    result = restore_vm(world.context(VmRef("HV01", vm_id, "web")), RestoreOptions(to=f"raw:{folder}"))
    assert result.error is None
    assert not result.warnings, "the disks are complete"
    assert TASK.lines is not None
    return "\n".join(TASK.lines(result.section, False))


@pytest.mark.parametrize("cmdlet", SECTIONS)
def test_a_section_that_cannot_be_read_is_named_and_the_rest_is_kept(
    world: World, tmp_path: Path, cmdlet: str
) -> None:
    vm_id = world.vm(disks=(2 * MIB,))

    def before(name: str) -> None:
        if name == DEFINITION:
            world.model.faults.arm_call(cmdlet, code=0x80070005)

    world.before = before
    result = world.backup(vm_id)
    assert result.error is None
    assert result.exit_code is ExitCode.DEGRADED
    section = SECTIONS[cmdlet]
    (warning,) = result.warnings
    assert f"lacks {section} (Hvps.Unexpected,native=0x80070005)" in warning
    (point,) = world.repository.catalog.points(vm_id)
    definition = json.loads(point.manifest.definition)
    assert [problem["section"] for problem in definition["problems"]] == [section]
    assert definition["vm"]["Id"] == str(vm_id)
    world.assert_points_equal(vm_id)
    world.assert_clean(vm_id)
    assert f"lacks {section} " in lines(world, vm_id, tmp_path / "restored")


def test_a_definition_that_can_be_read_lacks_nothing(world: World, tmp_path: Path) -> None:
    vm_id = world.vm(disks=(2 * MIB,))
    assert not world.good_backup(vm_id).warnings
    (point,) = world.repository.catalog.points(vm_id)
    assert json.loads(point.manifest.definition)["problems"] == []
    assert "lacks" not in lines(world, vm_id, tmp_path / "restored")


@pytest.mark.parametrize(
    "err",
    [
        OperationFailed("HV01", DEFINITION, "Hvps.Unexpected", "NotSpecified", None, "nothing works"),
        OperationTimedOut("HV01", DEFINITION, 60.0),
    ],
    ids=lambda err: type(err).__name__,
)
def test_a_definition_that_cannot_be_read_at_all_costs_only_itself(world: World, err: HostError) -> None:
    vm_id = world.vm(disks=(2 * MIB,))

    def before(name: str) -> None:
        if name == DEFINITION:
            raise err

    world.before = before
    result = world.backup(vm_id)
    assert result.error is None
    assert ["lacks definition" in text for text in result.warnings] == [True]
    world.assert_points_equal(vm_id)
    world.assert_clean(vm_id)


def test_a_vm_that_is_gone_is_not_a_definition_that_cannot_be_read(world: World) -> None:
    vm_id = world.vm(disks=(2 * MIB,))

    def before(name: str) -> None:
        if name == DEFINITION:
            raise VmNotFound("HV01", name, "Hvps.VmNotFound", "ObjectNotFound", None, "gone")

    world.before = before
    assert isinstance(world.backup(vm_id).error, VmNotFound)
    assert not world.repository.catalog.points(vm_id)


@pytest.mark.parametrize(
    ("definition", "missing"),
    [
        ("", ()),
        ('{"Generation":2}', ()),
        ("[]", ()),
        ('{"problems":7}', ()),
        ('{"problems":[7,{}]}', ("None (None)",)),
        ("not JSON", ("all of it (not JSON)",)),
        ("[" * 100_000, ("all of it (not JSON)",)),
        (without_sections("Hvps.Unexpected", "x"), ("definition (Hvps.Unexpected)",)),
    ],
    ids=str,
)
def test_anything_can_be_asked_for_what_it_lacks(definition: str, missing: tuple[str, ...]) -> None:
    assert missing_sections(definition) == missing
