"""WMI classes, their properties, methods, ends and numbers, against Microsoft's pages.

What is not documented, or is different in the stand-ins, is listed here with the reason. An entry that is no
longer needed fails, so the lists are complete both ways.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path

import pytest

from hvpsbridge.contract.errors import SNAPSHOT_RETURNS
from hvpsbridge.sim.model import Model, enums
from hvpsbridge.sim.model.errors import Wmi
from hvpsbridge.sim.model.setup import Slot
from hvpsbridge.sim.model.state import ControllerType
from hvpsbridge.sim.standin.associations import Associations
from hvpsbridge.sim.standin.classes import ASSOCIATIONS, CLASSES
from hvpsbridge.sim.standin.enums import ENUMS
from hvpsbridge.sim.standin.instances import Instances
from hvpsbridge.units import MIB
from tests.documented.tables import bases, compare, is_a, table
from tests.sim.planned import write_file

NO_PAGE = {
    "MSFT_MpComputerStatus": "documented with Defender, in another repository",
    "MSFT_MpPreference": "as above",
    "StdRegProv": "the page is no longer in the repository",
    "StdRegProv.GetDWORDValue": "as above",
    "Win32_Volume": "as above",
}
# Keys are marked on few pages, and differently from page to page. Paths of instances in Microsoft's samples
# have the keys that the stand-ins have.
KEYS = {
    "Msvm_ComputerSystem": "InstanceID is marked, which paths of instances never have",
    "Msvm_ConcreteJob": "Name is marked, too",
    "Msvm_PlannedComputerSystem": "InstanceID is marked, as above",
    "Msvm_ImageManagementService": "some are not marked; InstanceID is",
    "Msvm_SecuritySettingData": "none is marked",
    "Msvm_VirtualSystemManagementService": "InstanceID is marked, too",
    "Msvm_VirtualSystemReferencePoint": "VirtualSystemIdentifier is marked, too",
    "Msvm_VirtualSystemReferencePointService": "the page has no properties",
    "Msvm_VirtualSystemSnapshotService": "InstanceID is marked, too",
    "Win32_ComputerSystemProduct": "IdentifyingNumber and Version are marked, too; there is one instance",
    "Win32_OperatingSystem": "none is marked",
}


def test_classes_without_a_page_are_known() -> None:
    assert set(table("wmi")["missing"]) == NO_PAGE.keys()


@pytest.mark.parametrize("name", sorted(CLASSES.keys() - NO_PAGE.keys()))
def test_properties_have_the_documented_types(name: str) -> None:
    documented: dict[str, str] = {}
    for base in reversed(bases(name)):
        documented.update(table("wmi")["classes"].get(base, {}).get("properties", {}))
    # An interval is a datetime in another notation.
    stand_in = {each: kind.replace("interval", "datetime") for each, kind in CLASSES[name].properties.items()}
    assert stand_in == {each: documented.get(each, "not documented") for each in stand_in}


def test_keys_are_those_that_are_marked() -> None:
    found = {
        name: str(facts.key)
        for name, facts in CLASSES.items()
        if name not in NO_PAGE and sorted(facts.key) != table("wmi")["classes"][name]["keys"]
    }
    compare(found, KEYS)


METHODS = {f"{name}.{method}" for name, facts in CLASSES.items() for method in facts.methods}


@pytest.mark.parametrize("name", sorted(METHODS - NO_PAGE.keys()))
def test_methods_have_the_documented_parameters(name: str) -> None:
    owner, method = name.split(".")
    ours = CLASSES[owner].methods[method]
    for documented, stand_in in (
        (table("wmi")["methods"][name]["in"], ours.inputs),
        (table("wmi")["methods"][name]["out"], ours.outputs),
    ):
        assert stand_in.keys() == documented.keys()
        for parameter, kind in stand_in.items():
            wanted = documented[parameter]
            if kind.startswith("ref:") and wanted.startswith("ref:"):
                assert is_a(kind.removeprefix("ref:"), wanted.removeprefix("ref:")), parameter
            else:
                assert kind == wanted, parameter


def ends(association: str) -> list[str]:
    properties = table("wmi")["classes"][association]["properties"]
    return [kind.removeprefix("ref:") for kind in properties.values() if kind.startswith("ref:")]


# The pages name Msvm_ComputerSystem only; Bareos finds the settings of a planned VM so.
OF_PLANNED = {
    ("Msvm_SettingsDefineState", "Msvm_PlannedComputerSystem"),
    ("Msvm_SnapshotOfVirtualSystem", "Msvm_PlannedComputerSystem"),
}


def test_associations_tie_what_their_ends_may_be(tmp_path: Path) -> None:
    model = Model(tmp_path, seed=2)
    for knob in ("job_seconds", "merge_seconds", "visibility_seconds"):
        model.set_knob(knob, 0.0)
    vm = model.setup.create_vm("tied")
    model.setup.add_disk(vm.vm_id, Slot(ControllerType.SCSI, 0, 0), size_bytes=8 * MIB)
    first = model.checkpoints.create(vm.vm_id, name="one")
    model.jobs.wait(first)
    model.jobs.wait(model.checkpoints.convert(model.checkpoints.all(vm.vm_id, hidden=True)[0].checkpoint_id))
    model.jobs.wait(model.checkpoints.create(vm.vm_id, name="two"))
    # A planned VM of a checkpoint that has a parent.
    model.jobs.wait(model.checkpoints.create(vm.vm_id, name="three"))
    (last,) = [one for one in model.checkpoints.all(vm.vm_id, hidden=True) if one.name == "three"]
    path = write_file(model, model.vms.configuration(vm.vm_id, last.checkpoint_id)[0].content)
    assert not model.jobs.wait(model.planned.import_definition(path, new_id=True)).error_code
    instances = Instances(model, None)
    ties = {
        (association, start, end)
        for start in CLASSES
        for row in instances.rows(start)
        for association, end, _ in Associations(model, instances).of(start, row)
    }
    model.close()
    assert {association for association, _, _ in ties} >= set(ASSOCIATIONS) - {
        "Msvm_MostCurrentSnapshotInBranch"  # of a VM with a checkpoint of its own
    }
    assert {(association, start) for association, start, _ in ties} >= OF_PLANNED
    for association, start, end in sorted(ties):
        if {(association, start), (association, end)} & OF_PLANNED:
            continue
        one, other = ends(association)
        fits = (is_a(start, one) and is_a(end, other)) or (is_a(start, other) and is_a(end, one))
        assert fits, f"{association} cannot tie {start} and {end}"


# Numbers of a property of WMI, and the enumeration that has the same in the model or the module.
SAME_NUMBERS: list[tuple[str, type[IntEnum] | str]] = [
    ("Msvm_ConcreteJob.JobState", enums.JobState),
    ("Msvm_ConcreteJob.JobType", enums.JobKind),
    ("Msvm_ComputerSystem.OperationalStatus", enums.Operational),
    ("Msvm_ComputerSystem.ReplicationMode", enums.ReplicationMode),
    ("Msvm_VirtualSystemSettingData.UserSnapshotType", enums.CheckpointType),
    ("Msvm_VirtualSystemSnapshotSettingData.ConsistencyLevel", enums.Consistency),
    ("Msvm_VirtualHardDiskSettingData.Format", enums.VhdFormat),
    ("Msvm_VirtualHardDiskSettingData.Type", enums.VhdType),
    ("Msvm_StorageAllocationSettingData.WriteHardeningMethod", "CacheAttributes"),
    ("Msvm_VirtualSystemSettingData.ConsoleMode", "ConsoleModeType"),
    ("Msvm_VirtualSystemSettingData.AutomaticCriticalErrorAction", "CriticalErrorAction"),
    ("Msvm_ComputerSystem.ReplicationMode", "VMReplicationMode"),
]
# Numbers of the stand-ins that the page does not name.
UNNAMED = {
    "JobState": {32768: "in a range that is reserved for vendors: completed with warnings"},
    "JobKind": {60000: "of GetVirtualDiskChanges; see its docstring"},
    "Operational": {
        **dict.fromkeys((16, 32776, 32777, 32778, 32779, 32780, 32781, 32782), "of the module only"),
        **dict.fromkeys((32783, 32784, 32785, 32786, 32787, 32788, 32789, 32790, 32795), "as above"),
        23769: "the module's number for 32769",
    },
    "CheckpointType": {6: "of the model: for a type that a later Windows may add"},
    "VhdFormat": {0: "unknown"},
    "VhdType": {0: "unknown"},
}


@pytest.mark.parametrize(("place", "enum"), SAME_NUMBERS, ids=lambda value: str(value))
def test_numbers_are_named_on_the_page(place: str, enum: type[IntEnum] | str) -> None:
    owner, name = place.split(".")
    documented = set(map(int, table("wmi")["classes"][owner]["values"][name]))
    if isinstance(enum, str):
        (members,) = [values for full, values in ENUMS.items() if full.endswith(f".{enum}")]
        numbers, known = set(members.values()), {}
    else:
        numbers, known = set(map(int, enum)), UNNAMED.get(enum.__name__, {})
    assert numbers - documented == known.keys()


@pytest.mark.parametrize(
    ("enum", "name", "own"),
    [
        (enums.VMState, "VMState", set()),
        (enums.ControllerType, "ControllerType", set()),
        (enums.SnapshotType, "SnapshotType", set()),
        (enums.CheckpointType, "CheckpointType", {"Unlisted"}),
        (enums.ReplicationMode, "VMReplicationMode", set()),
        (enums.VhdFormat, "VhdFormat", set()),
        (enums.VhdType, "VhdType", set()),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_model_has_the_enumerations_of_the_module(enum: type[IntEnum], name: str, own: set[str]) -> None:
    (module,) = [values for full, values in ENUMS.items() if full.endswith(f".{name}")]
    assert {each.name.rstrip("_"): int(each) for each in enum if each.name not in own} == module


def test_jobs_of_the_model_are_what_the_page_calls_them() -> None:
    names = table("wmi")["classes"]["Msvm_ConcreteJob"]["values"]["JobType"]
    assert {kind.name: names.get(str(int(kind)), "") for kind in enums.JobKind} == {
        "MergeDisks": "Merging VHD Disks",
        "CreateCheckpoint": "Snapshot Virtual Machine",
        "ApplyCheckpoint": "Apply Virtual Machine Snapshot",
        "RemoveCheckpoint": "Delete Virtual Machine Snapshot",
        "ConvertCheckpoint": "Convert Snapshot to Reference Point",
        "RemoveReferencePoint": "Delete Reference Point",
        "ModifySettings": "Modify Virtual Machine",
        "DestroySystem": "Destroy Virtual Machine",
        "ModifyResources": "Modify Virtual Machine Resources",
        "RemoveResources": "Remove Virtual Machine Resources",
        "ImportDefinition": "Import Virtual Machine",
        "ValidatePlanned": "Validate Planned Virtual Machine",
        "RealizePlanned": "Realizing Virtual Machine",
        "GetDiskChanges": "",
    }


def test_return_values_are_those_of_the_services() -> None:
    """Pages of the snapshot service name 1 to 6 instead; hvps understands both."""
    methods = table("wmi")["methods"]
    named = set(map(int, methods["Msvm_ImageManagementService.GetVirtualDiskChanges"]["returns"]))
    assert set(map(int, Wmi)) <= named
    for facts in methods.values():
        assert {"0", "4096"} <= facts["returns"].keys()
    # An invalid type of settings is an invalid parameter.
    names = methods["Msvm_VirtualSystemSnapshotService.CreateSnapshot"]["returns"]
    shared = methods["Msvm_ImageManagementService.GetVirtualDiskChanges"]["returns"]
    for code, same in SNAPSHOT_RETURNS.items():
        first = names[str(code)].lower().replace("type", "parameter")
        assert shared[str(same)].lower().startswith(first)
