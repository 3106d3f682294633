"""C# of a script is compiled outside the shell's process, as csc.exe does it on Windows, and only once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from pypsrp.powershell import PowerShell, RunspacePool

from hvpsbridge.secret import Secret
from hvpsbridge.sim.hosts import PowerShellHost
from tests.sim.test_wsman_shells import connect, run

SOURCE = "namespace Apart { public class Sum { public static int Of(int a, int b) { return a + b; } } }"
COMPILE = (
    "param($source) Add-Type -TypeDefinition $source -Language CSharp -ErrorAction Stop;[Apart.Sum]::Of(2, 3)"
)
COMPILERS = (
    "[AppDomain]::CurrentDomain.GetAssemblies().GetName().Name.Where{ $_ -like 'Microsoft.CodeAnalysis*' }"
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "hvpsbridge" / "sim" / "compiled"


@pytest.fixture
def host(pwsh: object, cache: Path) -> Iterator[PowerShellHost]:
    with PowerShellHost(users={"backup": Secret("p:ss")}) as running:
        yield running


@contextmanager
def shell(host: PowerShellHost, runspaces: int = 1) -> Iterator[RunspacePool]:
    with connect(host) as wsman, RunspacePool(wsman, max_runspaces=runspaces) as pool:
        yield pool


def test_a_shell_holds_no_compiler_and_the_next_one_finds_the_assembly(
    host: PowerShellHost, cache: Path
) -> None:
    with shell(host) as pool:
        assert run(pool, COMPILE, source=SOURCE).output == [5]
        assert run(pool, COMPILERS).output == []
        (made,) = cache.iterdir()
        written = made.stat()
    with shell(host) as pool:
        assert run(pool, COMPILE, source=SOURCE).output == [5]
        assert run(pool, COMPILE, source=SOURCE).output == [5], "once more in the same process"
    assert [(path, path.stat()) for path in cache.iterdir()] == [(made, written)]


def test_shells_that_compile_at_once_do_not_meet(host: PowerShellHost, cache: Path) -> None:
    def compile_one(_: int) -> list[object]:
        with shell(host) as pool:
            return list(run(pool, COMPILE, source=SOURCE).output)

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(compile_one, range(3))) == [[5]] * 3
    assert [path.suffix for path in cache.iterdir()] == [".dll"]


def test_every_runspace_of_a_shell_has_it(host: PowerShellHost) -> None:
    with shell(host, runspaces=3) as pool:
        # Each keeps its runspace until all have begun.
        gate = "[Threading.Barrier]::new(3)"
        run(pool, f"[AppDomain]::CurrentDomain.SetData('gate', {gate})")
        script = (
            "[AppDomain]::CurrentDomain.GetData('gate').SignalAndWait();"
            "[runspace]::DefaultRunspace.Id; [string] (Get-Command Add-Type).CommandType"
        )
        pipelines = []
        for _ in range(3):
            pipelines.append(PowerShell(pool))
            pipelines[-1].add_script(script)
            pipelines[-1].begin_invoke()
        for pipeline in pipelines:
            pipeline.end_invoke()
        assert len({pipeline.output[0] for pipeline in pipelines}) == 3
        assert [pipeline.output[1] for pipeline in pipelines] == ["Function"] * 3


def test_what_does_not_compile_fails_with_the_compilers_words_and_leaves_nothing(
    host: PowerShellHost, cache: Path
) -> None:
    with shell(host) as pool:
        failed = PowerShell(pool)
        failed.add_script(COMPILE).add_parameter("source", "public class Odd { rubbish }")
        failed.invoke()
        assert failed.had_errors
        assert not failed.output
        assert "CS1519" in str(failed.streams.error[0])
    assert not list(cache.iterdir())


def test_a_second_type_of_the_same_name_is_refused(host: PowerShellHost) -> None:
    with shell(host) as pool:
        run(pool, COMPILE, source=SOURCE)
        refused = run(pool, COMPILE, source=SOURCE.replace("a + b", "a * b"))
        assert not refused.output
        assert "'Apart.Sum' already exists" in str(refused.streams.error[0])


def test_an_assembly_that_was_spoilt_on_disk_is_not_used_and_not_kept(
    host: PowerShellHost, cache: Path
) -> None:
    with shell(host) as pool:
        run(pool, COMPILE, source=SOURCE)
    (made,) = cache.iterdir()
    made.write_bytes(b"MZ")
    with shell(host) as pool:
        assert run(pool, COMPILE, source=SOURCE).output == [5]
    assert not list(cache.iterdir())


def test_other_uses_are_the_engines_own(host: PowerShellHost, cache: Path) -> None:
    with shell(host) as pool:
        member = "Add-Type -Name Two -Namespace Own -MemberDefinition 'public static int Of() { return 2; }'"
        assert run(pool, f"{member}; [Own.Two]::Of()").output == [2]
        given = "(Add-Type -TypeDefinition 'public class Given { }' -PassThru).Name"
        assert run(pool, given).output == ["Given"]
    assert not list(cache.iterdir())
