"""Error records of the scripts, made in a real PowerShell engine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.scripts.helps import FOLDER


@pytest.mark.parametrize(
    ("thrown", "error_id"),
    [
        ("[Exception]::new('x')", "Hvps.Unexpected"),
        ("[InvalidOperationException]::new('x')", "Hvps.Unexpected"),
        ("[Runtime.InteropServices.COMException]::new('x', 0x800706BA)", "Hvps.Unexpected,native=0x800706BA"),
        (
            "[Exception]::new('x', [Runtime.InteropServices.COMException]::new('y', 0x800706BA))",
            "Hvps.Unexpected,native=0x800706BA",
        ),
        ("[Exception]::new('no (0x80070070)')", "Hvps.Unexpected,native=0x80070070"),
        ("[ComponentModel.Win32Exception]::new(5)", "Hvps.Unexpected,native=0x00000005"),
    ],
)
def test_the_codes_of_net_are_not_shown_as_those_of_windows(
    pwsh: Path, tmp_path: Path, thrown: str, error_id: str
) -> None:
    script = tmp_path / "thrown.ps1"
    script.write_text(
        f". '{FOLDER / 'lib' / 'Errors.ps1'}'\n"
        f"try {{ throw {thrown} }} catch {{ (ConvertTo-HvpsError -Record $_).FullyQualifiedErrorId }}\n"
    )
    done = subprocess.run(
        [str(pwsh), "-NoProfile", "-File", str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.strip() == error_id
