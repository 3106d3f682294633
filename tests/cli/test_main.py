"""Each outcome has its exit code, each failure one clear line."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import tempfile
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from hvpsbridge import __version__, errors
from hvpsbridge.cli.app import COMMANDS
from hvpsbridge.cli.app import hvps as group
from hvpsbridge.errors import ExitCode, HvpsError
from hvpsbridge.tasks.registry import TASKS

from .conftest import Hvps, in_process


def _raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    @click.command("boom")
    def boom_() -> None:
        raise error

    monkeypatch.setitem(COMMANDS, "boom", "Fail.")
    monkeypatch.setitem(sys.modules, "hvpsbridge.cli.boom", SimpleNamespace(boom_=boom_))


def test_the_version_is_printed(hvps: Hvps) -> None:
    done = hvps("--version")
    assert (done.code, done.out, done.err) == (0, f"hvps {__version__}\n", "")


def test_help_names_every_command_and_each_has_help(hvps: Hvps) -> None:
    text = hvps("--help").out
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", text, re.MULTILINE), name
        done = hvps(name, "--help")
        assert done.code == 0
        assert done.out.startswith(f"Usage: hvps {name}")


def test_help_imports_no_command_and_no_task() -> None:
    code = "import sys; from hvpsbridge.cli.main import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    commands = {f"hvpsbridge.cli.{name}" for name in COMMANDS}
    assert not imported & {*commands, *TASKS.values(), "hvpsbridge.host.hyperv", "pypsrp"}


def test_commands_are_named_as_they_are_called() -> None:
    context = click.Context(group)
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        assert command.name == name


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("list", "--nonsense"),
        ("run",),
        ("validate",),
        ("list",),
        ("verify", "--level", "hoped"),
        ("repo", "init", "--chunk", "12 parsecs", "/nowhere"),
        ("repo", "init", "--chunk", "65KiB", "/nowhere"),
        ("repo", "init", "--repo", "/a", "/b"),
        ("-v", "--config"),
        ("inventory", "h:1", "--port", "5"),
        ("inventory", "h", "--password-fd", "3", "--password-env", "X"),
        ("inventory", "h", "--password-command", "'"),
        ("inventory", "h", "--password-command", ""),
        ("run", "playbook.yaml", "-e", "novalue"),
        (),
    ],
)
def test_a_command_line_that_makes_no_sense_is_one_line_and_64(
    hvps: Hvps, arguments: tuple[str, ...]
) -> None:
    done = hvps(*arguments)
    assert done.code == 64
    if arguments:
        assert done.err.startswith("hvps: ")
        assert done.err.count("\n") == 1
        assert done.out == ""


_EXAMPLES: dict[str, object] = {
    "int": 7,
    "int | None": 7,
    "float": 7.0,
    "bool": False,
    "tuple[str, ...]": ("one", "two"),
    "tuple[Problem, ...]": (),
}


def _every_error() -> list[type[HvpsError]]:
    found = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, HvpsError) and value is not HvpsError
    ]
    assert len(found) > 30
    return found


@pytest.mark.parametrize("kind", _every_error(), ids=lambda kind: kind.__name__)
def test_every_error_becomes_one_line_and_its_code(
    kind: type[HvpsError], hvps: Hvps, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = kind(**{field.name: _EXAMPLES.get(str(field.type), "text") for field in fields(kind)})
    _raising(monkeypatch, error)
    done = hvps("boom")
    assert done.code == error.exit_code
    assert done.err.startswith("hvps: ")
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 143)])
def test_an_interrupt_has_its_signal_s_code(
    name: str, code: int, hvps: Hvps, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raising(monkeypatch, errors.Interrupted(name))
    done = hvps("boom")
    assert (done.code, done.err) == (code, f"hvps: stopped by {name}\n")


def test_a_bug_is_one_line_that_names_where_the_traceback_is(
    hvps: Hvps, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raising(monkeypatch, ZeroDivisionError("by\nzero"))
    done = hvps("boom")
    assert done.code == 1
    assert done.err.count("\n") == 1
    match = re.search(r"please report it with (\S+)$", done.err)
    assert match is not None
    log = Path(match[1])
    try:
        assert "ZeroDivisionError" in log.read_text()
        assert "Traceback" in log.read_text()
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
    finally:
        log.unlink()


def test_a_bug_goes_to_the_log_file_when_there_is_one(
    hvps: Hvps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _raising(monkeypatch, ZeroDivisionError("by zero"))
    log = tmp_path / "hvps.log"
    done = hvps("--log-file", log, "boom")
    assert done.code == 1
    assert str(log) in done.err
    assert "ZeroDivisionError" in log.read_text()


def test_lines_and_escape_codes_from_a_host_do_not_reach_the_terminal(
    hvps: Hvps, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "one\r\ntwo \x1b[2J\x1b]0;title\x07 three"
    _raising(
        monkeypatch, errors.OperationFailed("h", "Get-HvpsVm", "Hvps.Unexpected", "NotSpecified", None, said)
    )
    done = hvps("boom")
    assert done.err.count("\n") == 1
    assert "\x1b" not in done.err
    assert "one two" in done.err


def test_a_traceback_is_shown_for_two_v_only(
    hvps: Hvps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _raising(monkeypatch, errors.NoRepository("/r"))
    assert "Traceback" not in hvps("-v", "boom").err
    assert "Traceback" in hvps("-vv", "boom").err


@pytest.mark.parametrize("arguments", [("run", "nothing.yaml"), ("list", "--repo", "/nothing"), ("verify",)])
def test_with_json_a_failure_is_a_document_too(hvps: Hvps, arguments: tuple[str, ...]) -> None:
    done = hvps(*arguments, "--json")
    assert done.err.count("\n") == 1
    report = json.loads(done.out)
    assert report["exit_code"] == done.code != 0
    assert report["tasks"] == []
    assert f"hvps: {report['problems'][0]['text']}\n" == done.err


def test_every_mistake_of_a_playbook_is_in_the_document(hvps: Hvps, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("version: 2\nname: 7\n")
    done = hvps("run", tmp_path / "p.yaml", "--json")
    (problem,) = json.loads(done.out)["problems"]
    assert problem["kind"] == "PlaybookInvalid"
    assert [found["mark"]["line"] for found in problem["facts"]["problems"]] == [1, 1, 1, 1, 2]
    assert done.err.count("\n") == 5


def test_v_is_accepted_before_and_after_the_command(hvps: Hvps, tmp_path: Path) -> None:
    for arguments in (("-v", "list", "--repo", "/nothing"), ("list", "--repo", "/nothing", "-v")):
        assert hvps(*arguments).err.count("\n") == (2 if arguments[0] == "-v" else 1)
    assert "Traceback" in hvps("list", "--repo", "/nothing", "-vv").err
    assert "Traceback" in hvps("repo", "init", "--repo", "/proc/nothing", "-vv").err


def test_a_reader_that_closes_its_pipe_early_is_not_a_failure(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m hvpsbridge validate --schema | head -c 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 141}
    assert done.stderr == ""


def test_the_module_is_the_command() -> None:
    process = in_process("--version")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, f"hvps {__version__}\n", "")


def test_the_exit_codes_in_the_docs_are_those_of_the_program() -> None:
    page = (Path(__file__).parents[2] / "docs" / "exit-codes.md").read_text()
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert codes == {int(code) for code in ExitCode}
    order = re.search(r"exits with the first of: ([\d, ]+)", page)
    assert order is not None
    assert [int(code) for code in order[1].split(",")] == [int(code) for code in errors.PRECEDENCE]


@pytest.mark.parametrize("option", ["--json", "--json-lines"])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 64),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("by zero"), 1),
        (OSError(24, "Too many open files"), 5),
        (MemoryError(), 5),
        (OSError(28, "No space left on device", "/somewhere"), 13),
        (UnicodeEncodeError("latin-1", "s3cret \u6771", 7, 8, "ordinal not in range"), 5),
        (RuntimeError("can't start new thread"), 5),
    ],
    ids=str,
)
def test_however_a_command_ends_a_script_finds_a_report(
    error: BaseException | None,
    code: int,
    option: str,
    hvps: Hvps,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    @click.command("boom")
    @click.option("--json", "as_json", is_flag=True)
    @click.option("--json-lines", "as_lines", is_flag=True)
    def boom_(as_json: bool, as_lines: bool) -> None:
        assert error is not None
        raise error

    monkeypatch.setitem(COMMANDS, "boom", "Fail.")
    monkeypatch.setitem(sys.modules, "hvpsbridge.cli.boom", SimpleNamespace(boom_=boom_))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # for the traceback of a bug
    done = hvps("boom", option, *(["--bogus"] if error is None else []))
    report = json.loads(done.out)
    assert report["exit_code"] == done.code == code
    assert ("event" in report) == (option == "--json-lines")
    assert done.err.strip().count("\n") == 0  # click ends the line of a ^C
    assert ("bug" in done.err) == (code == 1)
    assert "s3cret" not in done.err + done.out
