"""Faults of single calls: what can be named, whom they affect, and how often they happen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.sim.model import ControllerType, DiskError, HyperVError, Model, Slot, Wmi
from hvpsbridge.sim.model.call_faults import CIM_CMDLETS, CMDLETS, ERRORS, FUNCTIONS, METHODS, is_call, parse
from hvpsbridge.sim.model.calls import CallRefused
from hvpsbridge.sim.model.messages import TEXTS
from hvpsbridge.sim.standin.announcing import CMDLETS as ANNOUNCED
from hvpsbridge.sim.standin.classes import CLASSES
from hvpsbridge.units import MIB

ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT / "ps_scripts"
PAGE = (ROOT / "docs" / "simulated-host.md").read_text()
SLOT = Slot(ControllerType.SCSI, 0, 0)
# Commands that run in the session itself and ask nothing of the host.
LANGUAGE = {
    "Add-Type",
    "ConvertTo-Json",
    "ForEach-Object",
    "Get-Command",
    "Get-Module",
    "New-Object",
    "Select-Object",
    "Set-StrictMode",
    "Sort-Object",
    "Start-Sleep",
    "Where-Object",
    "Write-Verbose",
}


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Model]:
    world = Model(tmp_path / "world")
    yield world
    world.close()


def _vm(model: Model, name: str) -> UUID:
    vm_id = model.setup.create_vm(name, folder=f"C:\\VMs\\{name}").vm_id
    model.setup.add_disk(vm_id, SLOT, size_bytes=1 * MIB)
    return vm_id


# -- what the scripts call --------------------------------------------------------------------------------


def _code(path: Path) -> str:
    """A script without help, comments and strings in single quotes on one line."""
    text = re.sub(r"<#.*?#>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"(?m)#.*$", "", text)


def _commands() -> set[str]:
    found = set()
    for path in SCRIPTS.rglob("*.ps1"):
        found |= set(re.findall(r"(?m)(?:^|[({|=@&;]|Hyper-V\\)\s*([A-Z][a-z]+-[A-Z]\w+)", _code(path)))
    return {name for name in found if "-Hvps" not in name}


def test_every_cmdlet_of_the_scripts_can_fail() -> None:
    commands = _commands()
    assert {"Get-VHD", "Get-VMSecurity", "Get-WinEvent", "Get-Cluster", "Invoke-CimMethod"} <= commands
    # Methods have names of their own.
    missing = {name for name in commands - LANGUAGE - {"Invoke-CimMethod"} if not is_call(name)}
    assert not missing, f"add {sorted(missing)} to sim/model/call_faults.py and sim/standin/announcing.py"


def test_every_method_of_the_scripts_can_fail() -> None:
    text = "\n".join(_code(path) for path in SCRIPTS.rglob("*.ps1"))
    pairs = re.findall(r"Service\s*=\s*'(\w+)'\s+Method\s*=\s*'(\w+)'", text)
    assert len(pairs) >= 5
    pairs += re.findall(r"ClassName\s*=\s*'(\w+)'\s+MethodName\s*=\s*'(\w+)'", text)
    (service,) = re.findall(r"\$service = '(\w+)'", text)
    pairs += [(service, method) for method in re.findall(r"Invoke-HvpsWaited -Method '(\w+)'", text)]
    assert {f"{service}.{method}" for service, method in pairs} <= METHODS.keys()
    # Each is called in one of these three forms.
    assert len(re.findall(r"\bMethod(?:Name)?\s*=?\s*'", text)) == len(pairs)


def test_every_function_of_the_reader_can_fail() -> None:
    folder = SCRIPTS / "lib" / "reader"
    text = "".join((folder / name).read_text(encoding="utf-8") for name in ("Native.cs", "NativeFile.cs"))
    asks_nothing = {"GetOverlappedResult", "GetFileSizeEx", "SetFilePointerEx"}
    imported = set(re.findall(r"static extern \w+ (\w+)\(", text)) - asks_nothing
    assert {name.removesuffix("W") for name in imported} <= set(FUNCTIONS)


def test_every_call_of_the_stand_ins_has_a_name() -> None:
    assert set(ANNOUNCED.values()) == set(CMDLETS)
    methods = {f"{name}.{method}" for name, known in CLASSES.items() for method in known.methods}
    assert methods == METHODS.keys()


@pytest.mark.parametrize("name", [*CMDLETS, *CIM_CMDLETS, *METHODS, *FUNCTIONS, *ERRORS])
def test_every_name_is_documented(name: str) -> None:
    assert f"`{name}`" in PAGE


# -- arming -----------------------------------------------------------------------------------------------


def test_a_call_fails_as_often_as_was_said(model: Model) -> None:
    model.faults.arm("Get-VHD:error=busy", 2)
    assert model.faults.armed() == {"Get-VHD": 2}
    for _ in range(2):
        with pytest.raises(CallRefused) as caught:
            model.calls.cmdlet("Get-VHD")
        assert (caught.value.identifier, caught.value.category) == ("ObjectInUse", "ResourceBusy")
    model.calls.cmdlet("Get-VHD")
    assert model.faults.armed() == {}
    assert model.faults.calls.seen["Get-VHD"] == 3


def test_calls_pass_before_the_first_that_fails(model: Model) -> None:
    model.faults.arm_call("ReadFile", after=1, code=1117)
    model.calls.function("ReadFile", "x")
    with pytest.raises(DiskError) as caught:
        model.calls.function("ReadFile", "x")
    assert caught.value.code == 1117


def test_only_one_vm_is_affected(model: Model) -> None:
    here, there = _vm(model, "here"), _vm(model, "there")
    model.faults.arm_call("Get-VHD", 9, vm="here")
    model.faults.arm_call("Get-VMSecurity", 9, vm=str(here))
    model.faults.arm_call("Get-VMHardDiskDrive", 9, vm="here")
    job = model.jobs.wait(model.checkpoints.create(here))
    paths = {name: model.disks.drives(vm)[0].layer or 0 for name, vm in (("here", here), ("there", there))}
    for layer in model.disks.chain(paths["here"]):
        with pytest.raises(CallRefused):
            model.calls.cmdlet("Get-VHD", layer.path)
    model.calls.cmdlet("Get-VHD", model.disks.layer(paths["there"]).path)
    with pytest.raises(CallRefused):
        model.calls.cmdlet("Get-VMSecurity", str(here).upper())
    with pytest.raises(CallRefused):
        model.calls.cmdlet("Get-VMHardDiskDrive", job.results["checkpoint"])
    model.calls.cmdlet("Get-VMSecurity", str(there))
    model.calls.cmdlet("Get-VMSecurity")


def test_a_slow_call_takes_its_time_and_succeeds(model: Model) -> None:
    waited: list[float] = []
    model.faults.arm("Get-VM:seconds=2.5")
    model.calls.cmdlet("Get-VM", pause=waited.append)
    model.calls.cmdlet("Get-VM", pause=waited.append)
    assert waited == [2.5]


def test_a_query_has_a_class_and_an_hresult(model: Model) -> None:
    model.faults.arm("Get-CimInstance:Win32_Volume:error=timeout,category=OperationTimeout")
    model.calls.query("Get-CimInstance:Msvm_ConcreteJob")
    with pytest.raises(CallRefused) as caught:
        model.calls.query("Get-CimInstance:Win32_Volume")
    assert (caught.value.hresult, caught.value.category) == (0x80041069, "OperationTimeout")
    model.faults.arm("Get-CimInstance")
    with pytest.raises(CallRefused):
        model.calls.query("Get-CimInstance:Msvm_ConcreteJob")


def test_a_method_is_refused_throws_or_starts_a_job_that_fails(model: Model) -> None:
    vm_id = _vm(model, "vm")
    name = "Msvm_VirtualSystemSnapshotService.CreateSnapshot"
    model.faults.arm(f"{name}:error=busy")
    with pytest.raises(HyperVError) as caught:
        model.calls.method(name, str(vm_id))
    assert caught.value.code == Wmi.INVALID_STATE
    model.faults.arm(f"{name}:code=0x800706BA")
    with pytest.raises(CallRefused) as thrown:
        model.calls.method(name, str(vm_id))
    assert thrown.value.hresult == 0x800706BA
    model.faults.arm_call(name, job=True, code=32774, text="locked, 0x80070020")
    job = model.calls.method(name, str(vm_id))
    assert job is not None
    done = model.jobs.wait(job)
    assert (done.error_code, done.error_text) == (32774, "locked, 0x80070020")
    assert model.checkpoints.all(vm_id, hidden=True) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Get-Nothing", "unknown fault"),
        ("Get-VHD:colour=red", "no setting colour"),
        ("Get-VHD:error=sad", "unknown error 'sad'"),
        ("Get-VHD:seconds=soon", "seconds takes a float"),
        ("Get-VHD:job=maybe", "job takes a bool"),
        ("Get-VHD:error=busy,vm", "'vm' is not key=value"),
        ("Get-VHD:job=on", "Get-VHD starts no job"),
    ],
)
def test_what_cannot_be_armed_is_refused(model: Model, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        model.faults.arm(text)
    assert model.faults.armed() == {}


def test_names_may_have_a_part_of_their_own() -> None:
    assert parse("GetVirtualDiskInformation:15:code=50") == ("GetVirtualDiskInformation:15", {"code": "50"})
    assert parse("GetVirtualDiskInformation:15") == ("GetVirtualDiskInformation:15", {})
    assert is_call("GetVirtualDiskInformation:15")
    assert not is_call("GetVirtualDiskInformation:x")


def test_nothing_is_left_after_disarming(model: Model) -> None:
    model.faults.arm_call("Get-VM", 5)
    model.faults.arm("Get-VM", 0)
    model.faults.arm_call("Get-VHD", 5)
    model.faults.clear()
    model.calls.cmdlet("Get-VM")
    model.calls.cmdlet("Get-VHD")


def test_every_language_has_every_message() -> None:
    assert {language: messages.keys() ^ TEXTS["en"].keys() for language, messages in TEXTS.items()} == {
        language: set() for language in TEXTS
    }
