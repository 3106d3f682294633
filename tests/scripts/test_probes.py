"""Rules for the probe scripts of the conformance kit: those of ps_scripts, and that they ask first."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from hvpsbridge.host.scripts import probe_text
from hvpsbridge.resources import resource_folder
from hvpsbridge.tasks.prove import remote

FOLDER = resource_folder("conformance")
SOURCES = sorted([*FOLDER.glob("*.ps1"), *FOLDER.glob("lib/*")])
NAMES = sorted(path.stem for path in FOLDER.glob("*.ps1"))
# They change something, so they take a mark, ask before each change, and know -WhatIf.
CHANGING = sorted(set(NAMES) - set(remote.READ_ONLY))


def test_everything_runs_in_windows_powershell_51(pwsh: Path, tmp_path: Path) -> None:
    files = []
    for name in NAMES:
        files.append(tmp_path / f"{name}.ps1")
        files[-1].write_text(probe_text(name), encoding="ascii")
    found = subprocess.run(
        [str(pwsh), "-Lint51", *map(str, SOURCES), *map(str, files)],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_sources_are_plain_ascii_without_tabs_or_long_lines(path: Path) -> None:
    text = path.read_text(encoding="ascii")
    assert "\t" not in text
    assert text.endswith("\n")
    assert max(map(len, text.splitlines())) <= 120
    assert not [line for line in text.splitlines() if line != line.rstrip()]


@pytest.mark.parametrize("name", NAMES)
def test_a_rendered_probe_has_no_marks_and_invokes_no_text(name: str) -> None:
    text = probe_text(name)
    assert text.startswith(f"# hvps probe={name} ")
    assert "#%" not in text
    for word in ("Invoke-Expression", "[scriptblock]::Create", "Invoke-Command", "iex "):
        assert word not in text


@pytest.mark.parametrize("name", CHANGING)
def test_a_probe_that_changes_something_asks_first(name: str) -> None:
    source = (FOLDER / f"{name}.ps1").read_text()
    assert "SupportsShouldProcess = $true" in source
    assert "$PSCmdlet.ShouldProcess(" in source
    if name != remote.NEW_SCRATCH_VM:
        first = source.index("Get-ScratchVm -VmId $VmId -Token $Token")
        assert first < source.index("$PSCmdlet.ShouldProcess(")


@pytest.mark.parametrize("name", remote.READ_ONLY)
def test_a_probe_that_only_reads_has_no_command_that_changes(name: str) -> None:
    source = (FOLDER / f"{name}.ps1").read_text()
    assert not re.search(r"\b(New|Set|Remove|Start|Stop|Move|Add|Checkpoint|Restore)-VM", source)


def test_a_scratch_vm_leaves_no_files_but_those_of_others(pwsh: Path, tmp_path: Path) -> None:
    folder = tmp_path / "vm"
    for path in ("Virtual Hard Disks/dynamic.vhdx", "moved-12345678/Virtual Machines/one.vmcx", "[1].vhdx"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("content")
    script = tmp_path / "script.ps1"
    library = (FOLDER / "lib" / "ScratchFiles.ps1").read_text()
    script.write_text(
        f"""Set-StrictMode -Version 3.0
        $ErrorActionPreference = 'Stop'
        {library}
        Get-ScratchFolder -Vm ([pscustomobject] @{{ Path = 'C:\\VMs\\one\\moved-0a1b2c3d\\' }})
        $files = '{folder}/Virtual Hard Disks/dynamic.vhdx', '{folder}/[1].vhdx', '{folder}/no'
        @(Remove-ScratchFile -Path $files).Count
        @(Remove-ScratchFile -Path @()).Count
        Clear-ScratchFolder -Path '{folder}'
        """
    )
    done = subprocess.run(
        [str(pwsh), "-NoProfile", "-File", str(script)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert (done.stderr, done.stdout.split()) == ("", ["C:\\VMs\\one", "0", "0"])
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    assert left == [
        "moved-12345678",
        "moved-12345678/Virtual Machines",
        "moved-12345678/Virtual Machines/one.vmcx",
    ]
