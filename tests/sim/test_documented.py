"""The stand-ins against what Microsoft documents: tools/documented/tables, made by tools/documented.

What is not documented, or is different in the stand-ins, is listed here with the reason. An entry that is no
longer needed fails, so the lists are complete both ways.
"""

from __future__ import annotations

import json
import re
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hvpsbridge.contract.errors import ERRORS, LOST_HANDLE_CODES, SNAPSHOT_RETURNS
from hvpsbridge.resources import resource_folder
from hvpsbridge.sim import disk_protocol
from hvpsbridge.sim.model import Model, enums
from hvpsbridge.sim.model.errors import Win32, Wmi
from hvpsbridge.sim.model.setup import Slot
from hvpsbridge.sim.model.state import ControllerType
from hvpsbridge.sim.standin import types
from hvpsbridge.sim.standin.associations import Associations
from hvpsbridge.sim.standin.classes import ASSOCIATIONS, CLASSES
from hvpsbridge.sim.standin.enums import ENUMS
from hvpsbridge.sim.standin.instances import Instances
from hvpsbridge.units import MIB
from tools.documented import cmdlets as cmdlet_pages
from tools.documented import generate
from tools.documented import wmi as wmi_pages

SCRIPTS = resource_folder("ps_scripts")
MODULE = generate.MODULE.parent
ROOT = Path(__file__).parents[2]


@cache
def table(name: str) -> Any:
    return json.loads((generate.TABLES / f"{name}.json").read_text(encoding="utf-8"))


def bases(name: str) -> list[str]:
    """A class and those it derives from, nearest first."""
    found = [name]
    while (facts := table("wmi")["classes"].get(found[-1])) and facts["base"]:
        found.append(facts["base"])
    return found


def is_a(name: str, wanted: str) -> bool:
    return wanted in bases(name)


def compare(found: dict[str, str], known: dict[str, str]) -> None:
    """Differences are those that are known, all of them and no others."""
    assert {name: text for name, text in found.items() if name not in known} == {}
    assert known.keys() - found.keys() == set(), "no longer different"


# -- WMI --------------------------------------------------------------------------------------------

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
    for association, start, end in sorted(ties):
        one, other = ends(association)
        fits = (is_a(start, one) and is_a(end, other)) or (is_a(start, other) and is_a(end, one))
        assert fits, f"{association} cannot tie {start} and {end}"


# -- numbers ----------------------------------------------------------------------------------------

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


# -- the Hyper-V module ------------------------------------------------------------------------------

# Enumerations that no parameter takes: their names and numbers are from Microsoft's assemblies.
NO_PARAMETER = {
    "VMState",
    "VMOperationalStatus",
    "VirtualMachineType",
    "VMHeartbeatStatus",
    "VMBootSourceType",
    "VMNetworkAdapterVlanMode",
    "VhdFormat",
}
NAMES = {"ControllerType": {"PMEM"}}
# Documented outputs that nobody asks the stand-ins for.
OUTPUTS = {
    "Checkpoint-VM": {"Microsoft.HyperV.PowerShell.Snapshot"},
    "Get-VMNetworkAdapter": {"Microsoft.HyperV.PowerShell.VMInternalNetworkAdapter"},
    "Rename-VMSnapshot": {"VMSnapshot"},
}
COMMON = {"ErrorAction", "WarningAction", "Confirm", "WhatIf", "Verbose", "Debug", "ErrorVariable"}


def test_cmdlets_and_enumerations_without_a_page_are_known() -> None:
    assert set(table("cmdlets")["missing"]) == NO_PARAMETER


@pytest.mark.parametrize("full", sorted(ENUMS))
def test_enumerations_have_the_documented_names(full: str) -> None:
    name = full.rpartition(".")[2]
    if name not in NO_PARAMETER:
        assert set(ENUMS[full]) - set(table("cmdlets")["enums"][name]["names"]) == NAMES.get(name, set())
        assert set(table("cmdlets")["enums"][name]["names"]) <= set(ENUMS[full])


def test_cmdlets_return_classes_of_the_stand_ins() -> None:
    """Members of these classes are not documented; see docs/hyperv-facts.md#cmdlet-shapes."""
    for name, facts in table("cmdlets")["cmdlets"].items():
        unknown = set(facts["outputs"]) - types.CLASSES.keys() - {"None"}
        assert unknown == OUTPUTS.get(name, set()), name


def declared(name: str) -> set[str]:
    """Parameters of a function of the stand-in."""
    for path in MODULE.glob("*.ps1"):
        text = path.read_text()
        block = re.search(rf"^function {name} \{{\n.*?^    param\((.*?)^    \)", text, re.M | re.S)
        if block is not None:
            return set(re.findall(r"[\])] \$(\w+)", block[1]))
    # Made from one text, with additions.
    text = (MODULE / "Hardware.ps1").read_text()
    (common,) = re.findall(r"^    param\(\n([^@]*SNAPSHOT.*?)^    \)", text, re.M | re.S)
    (snapshot,) = re.findall(r"OfSnapshot = @'\n(.*?)'@", text, re.S)
    extra = re.search(rf"^    '{name}' += '(.*\$.*)'$", text, re.M)
    added = ("" if name == "Get-VMSecurity" else snapshot) + (extra[1] if extra else "")
    return set(re.findall(r"[\])] \$(\w+)", common + added))


def test_the_stand_in_takes_no_parameter_that_is_not_documented() -> None:
    for name, facts in table("cmdlets")["cmdlets"].items():
        documented = set(facts["parameters"])
        for parameter in facts["parameters"].values():
            documented.update(parameter.get("aliases", ()))
        assert {"CimSession", "ComputerName"} <= declared(name) <= documented | COMMON, name


def test_scripts_use_parameters_that_every_release_has() -> None:
    seen = set()
    for path in sorted(SCRIPTS.rglob("*.ps1")):
        for call in re.finditer(r"Hyper-V\\(\w+-\w+)([^|;\n)]*)", path.read_text()):
            facts = table("cmdlets")["cmdlets"][call[1]]
            assert "not_in" not in facts, call[1]
            for parameter in set(re.findall(r" -(\w+)", call[2])) - COMMON:
                assert "not_in" not in facts["parameters"][parameter], f"{call[1]} -{parameter}"
                seen.add(parameter)
    assert {"VM", "VMSnapshot", "Id", "Path"} <= seen


# -- virtdisk ---------------------------------------------------------------------------------------


def test_codes_have_names() -> None:
    assert table("virtdisk")["missing"] == []
    names = {number: name for name, number in table("virtdisk")["errors"].items()}
    codes = {*map(int, Win32), *LOST_HANDLE_CODES}
    for kind in ERRORS.values():
        # An HRESULT 0x8007xxxx is the Win32 code xxxx.
        codes.update(code & 0xFFFF if code >> 16 == 0x8007 else code for code in kind.disk_codes)
    assert codes - names.keys() == set()


def test_versions_of_information_are_those_of_the_header() -> None:
    constants = table("virtdisk")["constants"]
    names = {
        "STORAGE_TYPE": "VIRTUAL_STORAGE_TYPE",
        "DISK_ID": "VIRTUAL_DISK_ID",
        "CHANGE_TRACKING": "CHANGE_TRACKING_STATE",
    }
    for info in disk_protocol.Info:
        assert constants[f"GET_VIRTUAL_DISK_INFO_{names.get(info.name, info.name)}"] == int(info)


def native() -> str:
    return (SCRIPTS / "lib" / "reader" / "Native.cs").read_text()


BYTES = {"int": 4, "uint": 4, "ulong": 8, "Guid": 16}


@pytest.mark.parametrize(
    ("name", "structure"),
    [
        ("StorageType", "VIRTUAL_STORAGE_TYPE"),
        ("OpenParameters", "OPEN_VIRTUAL_DISK_PARAMETERS"),
        ("AttachParameters", "ATTACH_VIRTUAL_DISK_PARAMETERS"),
        ("ChangedRange", "QUERY_CHANGES_VIRTUAL_DISK_RANGE"),
    ],
)
def test_structures_of_the_reader_have_the_size_and_offsets_of_the_header(name: str, structure: str) -> None:
    (body,) = re.findall(rf"struct {name}\n\s*\{{\n(.*?)\n\s*\}}", native(), re.S)
    at, offsets = 0, {}
    for kind, fields in re.findall(r"public (\w+) ([\w, ]+);", body):
        for field in fields.split(", "):
            assert at % min(BYTES[kind], 8 if kind == "ulong" else 4) == 0
            offsets[field] = at
            at += BYTES[kind]
    header = table("virtdisk")["structures"][structure]
    assert at == header["bytes"]
    fields = header["fields"]
    if name == "OpenParameters":
        assert offsets["GetInfoOnly"] == fields["Version2.GetInfoOnly"]
        assert offsets["ReadOnly"] == fields["Version2.ReadOnly"]
        assert offsets["Resiliency"] == fields["Version2.ResiliencyGuid"]


def test_the_reader_reads_information_where_the_header_has_it() -> None:
    fields = table("virtdisk")["structures"]["GET_VIRTUAL_DISK_INFO"]["fields"]
    query = (SCRIPTS / "lib" / "reader" / "DiskQuery.cs").read_text()
    disk = (SCRIPTS / "lib" / "reader" / "Disk.cs").read_text()
    assert f"ToInt32(tracking, {fields['ChangeTrackingState.Enabled']})" in query
    assert f"ToInt32(tracking, {fields['ChangeTrackingState.NewerChanges']})" in query
    assert f"GetString(tracking, {fields['ChangeTrackingState.MostRecentId']}," in query
    assert f"ToUInt64(size, {fields['Size.VirtualSize']})" in disk
    assert f"ToUInt32(size, {fields['Size.SectorSize']})" in disk


def test_the_reader_attaches_with_the_flags_it_says() -> None:
    constants = table("virtdisk")["constants"]
    read_only = constants["ATTACH_VIRTUAL_DISK_FLAG_READ_ONLY"]
    no_host = constants["ATTACH_VIRTUAL_DISK_FLAG_NO_LOCAL_HOST"]
    assert f"AttachVirtualDisk(handle, IntPtr.Zero, 0x{read_only:X} | 0x{no_host:X}, 0," in native()
    assert constants["VIRTUAL_DISK_ACCESS_NONE"] == 0
    assert constants["DETACH_VIRTUAL_DISK_FLAG_NONE"] == 0


def test_functions_take_as_many_arguments_as_the_header_has() -> None:
    for name, arguments in table("virtdisk")["functions"].items():
        (found,) = re.findall(rf"extern int {name}\((.*?)\);", native(), re.S)
        assert len(found.split(",")) == len(arguments), name
    text = (ROOT / "hvpsbridge" / "sim" / "native" / "virtdisk.c").read_text()
    for name, arguments in table("virtdisk")["functions"].items():
        (found,) = re.findall(rf"^uint32_t {name}\((.*?)\) \{{", text, re.S | re.M)
        assert len(found.split(",")) == len(arguments), name


# -- the generator ----------------------------------------------------------------------------------


def test_sources_are_named() -> None:
    for name in ("wmi", "cmdlets"):
        source = table(name)["source"]
        assert source["repository"].startswith("MicrosoftDocs/")
        assert re.fullmatch("[0-9a-f]{40}", source["commit"])
    assert re.fullmatch(r"[\d.]+", table("virtdisk")["source"]["version"])


CLASS_PAGE = """
``` syntax
[Dynamic, AMENDMENT]
class Toy_Thing : CIM_Thing
{
  string   Name = "x";
  uint16   States[];
  CIM_Thing REF Owner;
};
```

### Properties

<dl> <dt>

**Name**
</dt> <dd> <dl> <dt>

Data type: **string**
</dt> <dt>

Qualifiers: **Key**, **MaxLen** (64)
</dt> </dl>

</dd> <dt>

**States**
</dt> <dd> <dl> <dt>

Data type: **uint16** array
</dt> </dl>

| <span id="OK"></span><dl> <dt>**OK**</dt> <dt>2</dt> </dl> | Fine. |

**In Service** (11)

## Remarks

**Nothing** (5)
"""


PAGE = ".md"
THING, RUN = (f"desktop-src/HyperV_v2/{name}{PAGE}" for name in ("toy-thing", "run-toy-thing"))


class Pages:
    """A repository with one class and one method."""

    paths = frozenset({THING, RUN})

    def source(self) -> dict[str, str]:
        return {"repository": "toys", "commit": "0"}

    def read(self, path: str) -> str:
        if "run-" in path:
            return (
                "uint32 Run(\n  [in]      string        Text,\n  [in, out] CIM_Thing REF Result,\n"
                "  [out]     uint64        Parts[]\n);\n## Return value\n**Done** (0)\n## Remarks\n**No** (9)"
            )
        return CLASS_PAGE


def test_a_page_becomes_a_row() -> None:
    made = wmi_pages.wmi_table(Pages(), {"Toy_Thing", "Toy_None"}, [("Toy_Thing", "Run")])  # type: ignore[arg-type]
    assert made["missing"] == ["CIM_Thing", "Toy_None"]
    assert made["classes"]["Toy_Thing"] == {
        "path": THING,
        "base": "CIM_Thing",
        "properties": {"Name": "string", "States": "uint16[]", "Owner": "ref:CIM_Thing"},
        "keys": ["Name"],
        "values": {"States": {"2": "OK", "11": "In Service"}},
    }
    assert made["methods"]["Toy_Thing.Run"] == {
        "path": RUN,
        "in": {"Text": "string", "Result": "ref:CIM_Thing"},
        "out": {"Result": "ref:CIM_Thing", "Parts": "uint64[]"},
        "returns": {"0": "Done"},
    }


def test_a_cmdlet_becomes_a_row() -> None:
    page = (
        "### -Kind\nWhich.\n\n```yaml\nType: Kind\nAliases: Sort\nAccepted values: A, B\n```\n\n"
        "### -Old\nAllowed values are **C** and **D**.\n\n```yaml\nType: Microsoft.Old[]\n```\n"
        "## OUTPUTS\n\n### Some.Thing\n\n## NOTES\n"
    )

    class Cmdlets(Pages):
        paths = frozenset({"docset/winserver2025-ps/Hyper-V/Get-Toy" + PAGE})

        def read(self, path: str) -> str:
            return page

    made = cmdlet_pages.cmdlet_table(Cmdlets(), ["Get-Toy"], ["Kind", "Old", "None"])  # type: ignore[arg-type]
    assert made["cmdlets"]["Get-Toy"] == {
        "outputs": ["Some.Thing"],
        "parameters": {"Kind": {"type": "Kind", "aliases": ["Sort"]}, "Old": {"type": "Microsoft.Old[]"}},
        "not_in": ["2016", "2019", "2022"],
    }
    assert {name: facts["names"] for name, facts in made["enums"].items()} == {
        "Kind": ["A", "B"],
        "Old": ["C", "D"],
    }
    assert made["missing"] == ["None"]
