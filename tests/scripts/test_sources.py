"""Rules for all files of ps_scripts, and rendering of scripts."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from hvpsbridge.contract import CONTRACT, OPERATIONS
from hvpsbridge.errors import InternalError
from hvpsbridge.host import scripts
from hvpsbridge.host.scripts import literal, script_text
from tests.scripts.helps import FOLDER, sources


def test_everything_runs_in_windows_powershell_51_on_windows_server_2016(pwsh: Path) -> None:
    found = subprocess.run(
        [str(pwsh), "-Lint51", *map(str, sources())], capture_output=True, text=True, timeout=280
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_the_reader_compiles_there_as_one_text(pwsh: Path, tmp_path: Path) -> None:
    """Its files do not compile alone, so the check of each file above sees none of their code."""
    text = script_text(OPERATIONS["Test-HvpsReader"])
    (source,) = re.findall(r"@'\n(#define.*?\n)'@\n", text, re.DOTALL)
    for path in FOLDER.glob("lib/reader/*.cs"):
        assert path.read_text(encoding="ascii") in source, path.name
    file = tmp_path / "reader.cs"
    file.write_text(source, encoding="ascii")
    found = subprocess.run([str(pwsh), "-Lint51", str(file)], capture_output=True, text=True, timeout=280)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def compiled_as_framework(pwsh: Path, file: Path) -> str:
    script = Path(__file__).with_name("Compile-AsFramework.ps1")
    done = subprocess.run(
        [str(pwsh), "-NoProfile", "-File", str(script), str(file)],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_source_has_a_warning_which_windows_powershell_takes_for_an_error(
    pwsh: Path, tmp_path: Path
) -> None:
    for operation in ("Test-HvpsReader", "Get-HvpsAllocation"):
        for number, source in enumerate(
            re.findall(r"@'\n(.*?\n)'@\n", script_text(OPERATIONS[operation]), re.DOTALL)
        ):
            file = tmp_path / f"{operation}{number}.cs"
            file.write_text(source, encoding="ascii")
            assert compiled_as_framework(pwsh, file) == ""
    unused = tmp_path / "unused.cs"
    unused.write_text("class Unused { int field; }")
    assert "CS0169" in compiled_as_framework(pwsh, unused)


def test_warnings_do_not_stop_the_compiler_on_a_host() -> None:
    for path in FOLDER.rglob("*.ps1"):
        for line in path.read_text(encoding="ascii").splitlines():
            assert "Add-Type -" not in line or "-IgnoreWarnings" in line, path.name


def test_a_rendered_script_passes_too(pwsh: Path, tmp_path: Path) -> None:
    files = []
    for operation in OPERATIONS.values():
        files.append(tmp_path / f"{operation.name}.ps1")
        files[-1].write_text(script_text(operation), encoding="ascii")
    found = subprocess.run(
        [str(pwsh), "-Lint51", *map(str, files)], capture_output=True, text=True, timeout=280
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.name)
def test_sources_are_plain_ascii_without_tabs_or_long_lines(path: Path) -> None:
    text = path.read_text(encoding="ascii")
    assert "\t" not in text
    assert "\r" not in text
    assert text.endswith("\n")
    assert max(map(len, text.splitlines())) <= 120
    assert not [line for line in text.splitlines() if line != line.rstrip()]


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
def test_a_rendered_script_names_operation_and_contract_first_and_leaves_no_marks(operation) -> None:
    text = script_text(operation)
    assert text.startswith(f"# hvps operation={operation.name} contract={CONTRACT}\n")
    assert "#%" not in text
    assert text == script_text(operation)


def test_code_is_joined_to_code_and_nothing_else() -> None:
    """No source has an expression of the template language: only includes are rendered."""
    for path in sources():
        for line in path.read_text().splitlines():
            assert "<#=" not in line
            if "#%" in line:
                assert re.fullmatch(r'\s*#% include "lib/(reader/)?\w+\.(ps1|cs)"', line), (
                    f"{path.name}: {line}"
                )


def test_values_are_never_invoked_as_text() -> None:
    for path in FOLDER.rglob("*.ps1"):
        text = path.read_text()
        for word in ("Invoke-Expression", "[scriptblock]::Create", "Invoke-Command", "iex "):
            assert word not in text, path.name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "$null"),
        (True, "$true"),
        (1 << 40, "1099511627776"),
        ("it's", "'it''s'"),
        ("$x `n \u2019;", "'$x `n \u2019\u2019;'"),
    ],
)
def test_an_expression_would_be_written_as_a_literal(value: object, text: str) -> None:
    assert literal(value) == text


def test_what_has_no_literal_is_refused() -> None:
    with pytest.raises(InternalError):
        literal(1.5)


def test_a_missing_script_is_a_broken_installation(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="Get-HvpsHost"):
        scripts.script_text(OPERATIONS["Get-HvpsHost"], tmp_path)
