"""The reference's own C# sample, unchanged, in a real PowerShell engine against the stand-in libraries."""
# ruff: noqa: E501  (PowerShell and C# inside strings)

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.sim import native
from hvpsbridge.sim.file_tables import file_table
from hvpsbridge.sim.model import ControllerType, Model, Slot
from hvpsbridge.sim.model_service import ModelService
from hvpsbridge.units import MIB

SLOT = Slot(ControllerType.SCSI, 0, 0)
SAMPLE = (Path(__file__).parent / "data" / "HvDisk.cs").read_text()
SIZE = 24 * MIB + 512


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Model]:
    world = Model(tmp_path / "world", seed=3)
    world.knobs.over_report = 0.0
    yield world
    world.close()


@pytest.fixture
def service(model: Model) -> Iterator[ModelService]:
    with ModelService(model) as served:
        yield served


@pytest.fixture
def frozen(model: Model) -> tuple[UUID, str, str]:
    """A VM with two layers and user data in both: checkpoint id, frozen path, id to ask changes from."""
    vm = model.setup.create_vm("web's [1] $x ü")
    model.setup.add_disk(vm.vm_id, SLOT, size_bytes=SIZE)
    chance = random.Random(5)
    model.guests.write(vm.vm_id, SLOT, 1 * MIB, chance.randbytes(2 * MIB))
    model.guests.write(vm.vm_id, SLOT, SIZE - 512, chance.randbytes(512))
    user = model.jobs.wait(model.checkpoints.create(vm.vm_id, name="user"))
    first = model.driver.tracking_state(
        model.disks.layer(model.checkpoints.get(UUID(user.results["checkpoint"])).disks["scsi0:0"]).path
    )[2]
    model.guests.write(vm.vm_id, SLOT, 2 * MIB + 4096, chance.randbytes(MIB))
    model.guests.unmap(vm.vm_id, SLOT, 1 * MIB, 64 * 1024)
    job = model.jobs.wait(model.checkpoints.create(vm.vm_id))
    point = UUID(job.results["checkpoint"])
    assert first
    return point, model.disks.layer(model.checkpoints.get(point).disks["scsi0:0"]).path, first


def run(pwsh: Path, service: ModelService, script: str, **variables: str) -> str:
    done = subprocess.run(
        [
            str(pwsh),
            "-NoProfile",
            "-Command",
            f"$ErrorActionPreference = 'Stop'; Add-Type -TypeDefinition $env:SAMPLE\n{script}",
        ],
        env={**os.environ, **service.environment(), "SAMPLE": SAMPLE, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not done.returncode, done.stderr
    return done.stdout


READ_ALL = """
$h = [HvDisk]::Open($env:DISK, $false); [HvDisk]::Attach($h)
$sha = [Security.Cryptography.SHA256]::Create(); $size = [long]$env:SIZE
$r = New-Object HvDisk+Reader($h, 1048576); $b = New-Object byte[] 1048576
for ($at = 0L; $at -lt $size; $at += 1048576) {
    $n = [int][Math]::Min(1048576L, $size - $at); $r.Read($at, $b, $n)
    [void]$sha.TransformBlock($b, 0, $n, $null, 0) }
[void]$sha.TransformFinalBlock($b, 0, 0)
[BitConverter]::ToString($sha.Hash).Replace('-', '').ToLower()
[HvDisk]::RctState($h)
$done = 0UL; $c = [HvDisk]::Changes($h, $env:RCT, 0, $size, [ref]$done)
"$done " + (($c | ForEach-Object { "$($_.Offset)+$($_.Length)" }) -join ',')
"""


def test_the_sample_reads_what_was_kept_apart_and_asks_what_changed(
    pwsh: Path, model: Model, service: ModelService, frozen: tuple[UUID, str, str]
) -> None:
    point, path, base = frozen
    said = run(pwsh, service, READ_ALL, DISK=path, SIZE=str(SIZE), RCT=base).splitlines()
    assert said[0] == hashlib.sha256(model.golden.at_checkpoint(point, SLOT).read_bytes()).hexdigest()
    assert said[1] == f"1|0|{model.driver.tracking_state(path)[2]}"
    processed, ranges = said[2].split(" ")
    assert int(processed) == SIZE
    assert ranges == f"{MIB}+{64 * 1024},{2 * MIB}+{MIB + 32 * 1024}"
    assert model.driver.attached() == ()


def test_an_attach_ends_with_its_process_and_keeps_others_out_until_then(
    pwsh: Path, model: Model, service: ModelService, frozen: tuple[UUID, str, str]
) -> None:
    _, path, _ = frozen
    mine = model.driver.open(path, "another")
    model.driver.attach(mine)
    script = """
    $h = [HvDisk]::Open($env:DISK, $false)
    try { [HvDisk]::Attach($h); 'attached' }
    catch { '0x{0:X8}' -f $_.Exception.InnerException.NativeErrorCode }"""
    assert run(pwsh, service, script, DISK=path).strip() == "0xC03A001E"
    model.driver.close(mine)
    assert run(pwsh, service, script, DISK=path).strip() == "attached"
    assert model.driver.attached() == ()


def test_disposing_the_handle_is_seen_by_the_model_at_once(
    pwsh: Path, model: Model, service: ModelService, frozen: tuple[UUID, str, str]
) -> None:
    script = """
    $a = [HvDisk]::Open($env:DISK, $false); [HvDisk]::Attach($a); $a.Dispose()
    $b = [HvDisk]::Open($env:DISK, $false)
    for ($i = 0; $i -lt 600; $i++) {
        try { [HvDisk]::Attach($b); 'again'; break } catch { Start-Sleep -Milliseconds 50 } }"""
    assert run(pwsh, service, script, DISK=frozen[1]).strip() == "again"


def test_reads_that_are_not_whole_sectors_of_the_disk_are_refused(
    pwsh: Path, service: ModelService, frozen: tuple[UUID, str, str]
) -> None:
    cases = [(1, 512, 87), (0, 100, 87), (SIZE, 512, 27), (SIZE - 512, 1024, 27), (SIZE - 512, 512, 0)]
    script = """
    $h = [HvDisk]::Open($env:DISK, $false); [HvDisk]::Attach($h)
    $r = New-Object HvDisk+Reader($h, 4096); $b = New-Object byte[] 4096
    foreach ($case in $env:CASES.Split(' ')) { $at, $n = $case.Split('+')
        try { $r.Read([long] $at, $b, [int] $n); 0 } catch { $_.Exception.InnerException.NativeErrorCode } }"""
    asked = " ".join(f"{offset}+{length}" for offset, length, _ in cases)
    said = run(pwsh, service, script, DISK=frozen[1], CASES=asked).split()
    assert [int(code) for code in said] == [code for _, _, code in cases]


MANY_THREADS = """
public static class Check {
  public static string Run(SafeFileHandle h, string kept) {
    byte[] want = System.IO.File.ReadAllBytes(kept); string said = "good"; var threads = new Thread[8];
    for (int i = 0; i < threads.Length; i++) { int seed = i; threads[i] = new Thread(delegate() {
      try { using (var r = new HvDisk.Reader(h, 65536)) {
        var b = new byte[65536]; var chance = new Random(seed);
        for (int n = 0; n < 40; n++) {
          long at = (long)chance.Next(0, 380) * 65536; r.Read(at, b, 65536);
          for (int j = 0; j < 65536; j++) if (b[j] != want[at + j]) said = "differs at " + (at + j);
        } } } catch (Exception e) { said = e.ToString(); } }); threads[i].Start(); }
    foreach (var t in threads) t.Join();
    return said; } }
"""


def test_many_reads_pend_at_once_and_each_gets_its_own_bytes(
    pwsh: Path, model: Model, service: ModelService, frozen: tuple[UUID, str, str]
) -> None:
    model.set_knob("read_delay_seconds", 0.005)
    script = """
    Add-Type -TypeDefinition ($env:SAMPLE + $env:CHECK).Replace('HvDisk', 'HvDisk2')
    $h = [HvDisk2]::Open($env:DISK, $false); [HvDisk2]::Attach($h)
    [Check]::Run($h, $env:KEPT)"""
    kept = model.golden.at_checkpoint(frozen[0], SLOT)
    said = run(pwsh, service, script, DISK=frozen[1], KEPT=str(kept), CHECK=MANY_THREADS)
    assert said.strip() == "good"


def test_without_a_compiler_there_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="C compiler"):
        native.library_folder(tmp_path / "cache")


def test_the_library_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = native.library_folder(tmp_path)
    assert {file.name for file in folder.iterdir()} == {"virtdisk.dll.so", "kernel32.dll.so"}
    monkeypatch.setenv("PATH", "")
    assert native.library_folder(tmp_path) == folder
    assert [entry.name for entry in tmp_path.iterdir()] == [folder.name]


def test_a_handle_whose_vm_migrated_away_reads_no_more(
    pwsh: Path, model: Model, service: ModelService, frozen: tuple[UUID, str, str], tmp_path: Path
) -> None:
    model.setup.add_node("HV02")
    script = """
    $h = [HvDisk]::Open($env:DISK, $false); [HvDisk]::Attach($h)
    $r = New-Object HvDisk+Reader($h, 4096); $b = New-Object byte[] 4096
    $r.Read(0, $b, 4096); 'read'
    [IO.File]::WriteAllText($env:READY, ''); while (-not [IO.File]::Exists($env:GO)) { Start-Sleep -Milliseconds 20 }
    try { $r.Read(0, $b, 4096); 'read' } catch { $_.Exception.InnerException.NativeErrorCode }"""
    ready, go = tmp_path / "ready", tmp_path / "go"

    def move() -> None:
        while not ready.exists():
            time.sleep(0.02)
        model.incidents.migrate(model.vms.all()[0].vm_id, "HV02")
        go.touch()

    mover = threading.Thread(target=move)
    mover.start()
    said = run(pwsh, service, script, DISK=frozen[1], READY=str(ready), GO=str(go)).split()
    mover.join()
    assert said == ["read", "1117"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [("read_error", "1117"), ("read_short", "read 3584 of 4096"), ("read_corrupt", "differs")],
)
def test_faults_at_reads_strike_in_the_library(
    pwsh: Path, model: Model, service: ModelService, frozen: tuple[UUID, str, str], fault: str, said: str
) -> None:
    model.faults.arm(fault)
    script = """
    $h = [HvDisk]::Open($env:DISK, $false); [HvDisk]::Attach($h)
    $r = New-Object HvDisk+Reader($h, 4096); $a = New-Object byte[] 4096; $b = New-Object byte[] 4096
    try { $r.Read(0, $a, 4096); $r.Read(0, $b, 4096)
        if ([BitConverter]::ToString($a) -ne [BitConverter]::ToString($b)) { 'differs' } else { 'same' } }
    catch { $e = $_.Exception.InnerException; if ($e -is [ComponentModel.Win32Exception]) { $e.NativeErrorCode } else { $e.Message } }"""
    assert run(pwsh, service, script, DISK=frozen[1]).strip().startswith(said)
    assert model.faults.armed() == {}


@pytest.mark.parametrize("knob", [("read_sync", 1.0), ("read_delay_seconds", 1.0)])
def test_reads_can_be_immediate_or_late(
    pwsh: Path, model: Model, service: ModelService, frozen: tuple[UUID, str, str], knob: tuple[str, float]
) -> None:
    model.set_knob(*knob)
    script = """
    Add-Type -TypeDefinition 'using System; using System.Runtime.InteropServices; using System.Threading; public static class K {
      [DllImport("kernel32.dll", SetLastError = true)] public static extern bool ReadFile(Microsoft.Win32.SafeHandles.SafeFileHandle h, IntPtr b, int n, IntPtr r, IntPtr o);
      public static string Read(Microsoft.Win32.SafeHandles.SafeFileHandle h) { IntPtr o = Marshal.AllocHGlobal(32), b = Marshal.AllocHGlobal(4096);
        for (int i = 0; i < 32; i++) Marshal.WriteByte(o, i, 0);
        bool now = ReadFile(h, b, 4096, IntPtr.Zero, o); int code = Marshal.GetLastWin32Error(); long at = Marshal.ReadInt64(o);
        for (int i = 0; i < 1200 && Marshal.ReadInt64(o) == 259; i++) Thread.Sleep(50); return now + " " + (now ? 0 : code) + " " + at + " " + Marshal.ReadInt64(o); } }'
    $h = [HvDisk]::Open($env:DISK, $false); [HvDisk]::Attach($h); [K]::Read($h)"""
    said = run(pwsh, service, script, DISK=frozen[1]).split()
    # Success, error code, OVERLAPPED.Internal right after the call, and when the read is long over.
    assert said == (["True", "0", "0", "0"] if knob[0] == "read_sync" else ["False", "997", "259", "0"])


def test_a_frozen_file_is_a_vhdx_that_qemu_reads(
    model: Model, frozen: tuple[UUID, str, str], tmp_path: Path
) -> None:
    if shutil.which("qemu-img") is None:
        pytest.skip("needs qemu-img (Debian: qemu-utils)")
    base = model.disks.chain(model.disks.at(frozen[1]).number)[-1]
    table = file_table(model, base.path, tmp_path / "views")
    (tmp_path / "base.vhdx").write_bytes(table.read(0, table.size_bytes))
    table.close()
    assert list((tmp_path / "views").iterdir()) == []
    subprocess.run(
        ["qemu-img", "convert", "-f", "vhdx", "-O", "raw", tmp_path / "base.vhdx", tmp_path / "base.raw"],
        check=True,
        capture_output=True,
    )
    user = model.checkpoints.all(model.vms.all()[0].vm_id)[0]
    assert (tmp_path / "base.raw").read_bytes() == model.golden.at_checkpoint(
        user.checkpoint_id, SLOT
    ).read_bytes()
