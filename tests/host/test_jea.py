"""The JEA kit, and its endpoint as a session state of the real engine that runs no scripts."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from pypsrp.powershell import PowerShell

from hvpsbridge.cli.jea import jea_
from hvpsbridge.contract import OPERATIONS
from hvpsbridge.errors import ConfigurationError, EndpointDiffers, ExitCode
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.jea import KIT_INFO, kit, kit_digest
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import Model
from hvpsbridge.tasks.host_check import CheckState, Reached
from hvpsbridge.tasks.host_facts import examine_host
from hvpsbridge.tasks.host_records import HostRecords
from tests.connections import basic
from tests.host.jea_kit import write_kit


@contextmanager
def endpoint(tmp_path: Path, folder: Path) -> Iterator[HostConnection]:
    model = Model(tmp_path / "world")
    with SimulatedHost(model, engine="powershell", jea=folder) as host:
        yield basic(host.url, jea=folder.name, read_timeout=120)
    model.close()


def test_the_module_has_every_operation_and_nothing_else_is_visible() -> None:
    files = kit("hvps", ["EXAMPLE\\backup"])
    names = {KIT_INFO.name, *OPERATIONS}
    functions = re.findall(r"^function ([\w-]+) \{$", files["Hvps/Hvps.psm1"], re.MULTILINE)
    assert names <= set(functions)
    assert len(set(functions) & names) == len([name for name in functions if name in names])
    restoring = {name for name, operation in OPERATIONS.items() if operation.restores}
    assert {"New-HvpsFile", "Remove-HvpsFile", "New-HvpsVm"} <= restoring
    for path, visible in (
        ("Hvps/Hvps.psd1", names),
        ("Hvps/RoleCapabilities/HvpsBackup.psrc", names - restoring),
        ("Hvps/RoleCapabilities/HvpsRestore.psrc", restoring),
    ):
        assert set(re.findall(r"'(\w+-Hvps\w+)'", files[path])) == visible, path
    assert "LanguageMode        = 'NoLanguage'" in files["hvps.pssc"]


def test_only_restore_groups_get_the_role_for_restores() -> None:
    session = kit("hvps", ["EX\\backup", "EX\\both"], ["EX\\both"])["hvps.pssc"]
    assert "'EX\\backup' = @{ RoleCapabilities = 'HvpsBackup' }" in session
    assert "'EX\\both' = @{ RoleCapabilities = 'HvpsBackup', 'HvpsRestore' }" in session


def test_the_kit_runs_in_windows_powershell_51(pwsh: Path, tmp_path: Path) -> None:
    folder = write_kit(tmp_path / "hvps")
    scripts = [*folder.rglob("*.psm1"), *folder.rglob("*.ps1")]
    assert len(scripts) == 2
    found = subprocess.run(
        [str(pwsh), "-Lint51", *map(str, scripts)], capture_output=True, text=True, timeout=280
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_data_files_are_data_with_any_name_of_a_group(pwsh: Path, tmp_path: Path) -> None:
    folder, groups = tmp_path / "hvps", ["BÜRO\\O'Brien; $(1)", "S-1-5-32-544"]
    done = CliRunner().invoke(jea_, [str(folder), "--group", groups[0], "--group", groups[1]])
    assert done.exit_code == 0
    files = [*folder.rglob("*.psd1"), *folder.rglob("*.psrc"), *folder.rglob("*.pssc")]
    assert len(files) == 4
    shown = subprocess.run(
        [
            str(pwsh),
            "-NoProfile",
            "-Command",
            "$tree = [Management.Automation.Language.Parser]::ParseFile("
            f"'{folder / 'hvps.pssc'}', [ref] $null, [ref] $null);"
            "$tree.EndBlock.Statements[0].PipelineElements[0].Expression.SafeGetValue().RoleDefinitions.Keys",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert sorted(shown.stdout.splitlines()) == sorted(groups)
    assert (folder / "hvps.pssc").read_bytes().startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--group", "a\nb"],
        ["--group", " "],
        ["--group", "a", "--endpoint", "../x"],
        ["--group", "a", "--endpoint", ""],
        [],
    ],
)
def test_bad_options_write_nothing(tmp_path: Path, arguments: list[str]) -> None:
    done = CliRunner().invoke(jea_, [str(tmp_path / "kit"), *arguments])
    assert done.exit_code != 0
    assert not (tmp_path / "kit").exists()


def test_the_endpoint_runs_operations_and_nothing_else(pwsh: Path, tmp_path: Path) -> None:
    folder = write_kit(tmp_path / "hvps")
    with endpoint(tmp_path, folder) as connection, HyperVHost.connect(connection) as host:
        assert host.host_info().name == "HV01"
        host.check_reader()
        pool = host._runner.session.client().pool
        assert _refusal(PowerShell(pool).add_script("1 + 1")) == "ScriptsNotAllowed"
        for command in ("Get-ChildItem", "Get-VM", "Invoke-Expression", "Add-Type", "whoami.exe"):
            assert _refusal(PowerShell(pool).add_cmdlet(command)) == "CommandNotFoundException"
        # In every runspace of the pool, and after the operations loaded modules.
        assert host.list_vms() == ((), ())


def test_the_endpoint_can_be_checked(pwsh: Path, tmp_path: Path) -> None:
    folder = write_kit(tmp_path / "hvps")
    reached = Reached(server="hv01", port=5985, tls=False, auth="basic", user="backup", certificate_days=None)
    with endpoint(tmp_path, folder) as connection, HyperVHost.connect(connection) as host:
        found = examine_host(host, reached, HostRecords())
        assert {check.state for check in found.checks} <= {CheckState.GOOD, CheckState.UNKNOWN}, found.checks
        assert found.rate is not None
        assert found.access is not None


def _refusal(command: PowerShell) -> str:
    command.invoke()
    (record,) = command.streams.error
    return str(record.fq_error)


def test_the_kit_of_another_version_is_refused(pwsh: Path, tmp_path: Path) -> None:
    folder = write_kit(tmp_path / "hvps")
    module = folder / "Hvps" / "Hvps.psm1"
    module.write_text(module.read_text().replace(kit_digest(), "0" * 64))
    with (
        endpoint(tmp_path, folder) as connection,
        pytest.raises(EndpointDiffers, match="another version of hvps") as caught,
    ):
        HyperVHost.connect(connection)
    assert "hvps jea" in caught.value.remedy
    assert caught.value.code == ExitCode.REFUSED


def test_an_endpoint_without_the_kit_is_refused(pwsh: Path, tmp_path: Path) -> None:
    folder = write_kit(tmp_path / "hvps")
    module = folder / "Hvps" / "Hvps.psm1"
    module.write_text(module.read_text().replace(KIT_INFO.name, "Get-Other"))
    with (
        endpoint(tmp_path, folder) as connection,
        pytest.raises(EndpointDiffers, match="it has no Get-HvpsKit"),
    ):
        HyperVHost.connect(connection)


def test_a_host_without_the_endpoint_refuses_the_shell(tmp_path: Path) -> None:
    model = Model(tmp_path / "world")
    with SimulatedHost(model) as host:
        connection = basic(host.url, jea="hvps")
        with pytest.raises(EndpointDiffers, match="JEA endpoint hvps: it does not exist"):
            HyperVHost.connect(connection)
    model.close()


def test_a_name_that_no_endpoint_has_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="jea"):
        HostConnection(name="x", address="https://x", jea="a/b")
