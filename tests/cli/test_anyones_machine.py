"""Machines of other people: closed and full streams, other locales, folders that are gone, no home.

Processes as users start them, several conditions in each.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvpsbridge.sim.control.client import Control

from .conftest import Done, Hvps, Served
from .world import World

NAME = "東京 web\N{EM DASH}01"


def _hvps(*arguments: str | Path, before: str = "", shell: str = "", **environment: str) -> Done:
    """A command line in a shell, with what comes before it, and redirections."""
    quoted = f'{before}"$@" {shell}'
    done = subprocess.run(
        ["/bin/bash", "-c", quoted, "bash", sys.executable, "-m", "hvpsbridge", *map(str, arguments)],
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
        timeout=120,
    )
    return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


@pytest.fixture
def world(hvps: Hvps, served: Served, tmp_path: Path) -> Iterator[World]:
    one = World(hvps, served, tmp_path, vm=NAME)
    one.build(NAME)
    yield one
    one.assert_clean()


def test_a_backup_is_made_whatever_its_streams_and_locale_are(world: World) -> None:
    playbook = world.playbook()

    # All three are closed; what the process opens next must not become its output.
    done = _hvps("run", playbook, shell="<&- >&- 2>&-")
    assert (done.code, done.out, done.err) == (0, "", "")

    # Output, errors and log on a full disk. The report is lost, which is no success for a script.
    done = _hvps("--log-file", "/dev/full", "run", playbook, "--json", shell="> /dev/full")
    assert done.code == 13
    assert done.err.count("log file /dev/full: cannot be written") == 1
    assert done.err.endswith("hvps: standard output: No space left on device; free some space\n")
    assert "Traceback" not in done.err
    done = _hvps("run", playbook, shell="> /dev/full 2> /dev/full")
    assert (done.code, done.err) == (13, "")

    # A locale that lacks the letters of the name, and a reader that leaves.
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    done = _hvps("run", playbook, "--json", **ascii_only)
    assert done.code == 0, done.err
    assert json.loads(done.out)["tasks"][0]["vm"] == NAME
    assert "\\u6771\\u4eac web\\u201401: backup started" in done.err
    done = _hvps("list", "--repo", world.repository, **ascii_only)
    assert (done.code, done.out.count("\\u6771\\u4eac web\\u201401")) == (0, 4)
    done = _hvps("run", playbook, "--json", shell="| true; exit ${PIPESTATUS[0]}")
    assert done.code == 0

    assert len(world.points()) == 5


def test_a_failure_keeps_its_code_when_nobody_reads_it(tmp_path: Path) -> None:
    for shell in ("2>&-", "<&- >&- 2>&-", "> /dev/full 2>&1", "2>&1 | true; exit ${PIPESTATUS[0]}"):
        done = _hvps("list", "--repo", tmp_path / "none", "-vv", shell=shell)
        assert (shell, done.code, done.err) == (shell, 10, "")


@contextlib.contextmanager
def _pipe_that_does_not_block() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        yield reader, writer
    finally:
        os.close(reader)


def test_output_to_a_pipe_that_does_not_block_is_whole(tmp_path: Path) -> None:
    with _pipe_that_does_not_block() as (reader, writer):
        process = subprocess.Popen(
            [sys.executable, "-m", "hvpsbridge", "schema", "report"], stdin=subprocess.DEVNULL, stdout=writer
        )
        os.close(writer)
        printed = b""
        while piece := os.read(reader, 4096):
            printed += piece
        assert process.wait() == 0
    assert len(printed) > 70_000
    assert "backup" in json.loads(printed)


def test_a_reader_that_stops_reading_stops_no_backup(world: World) -> None:
    """As ``hvps run ... 2>&1 | less``, or Ctrl-S, would for as long as nobody looks."""
    impatient = "from hvpsbridge.cli import main, streams; streams.STUCK_SECONDS = 0.2; main.run()"
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    command = [sys.executable, "-c", impatient, "-vv", "run", str(world.playbook()), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writer) as process:
        os.close(writer)
        out, _ = process.communicate(timeout=120)
    assert (process.returncode, json.loads(out)["exit_code"]) == (0, 0)
    assert b"starts run" in os.read(reader, 1 << 20)
    os.close(reader)
    assert len(world.points()) == 1


def test_text_that_nobody_read_is_noted_where_it_is_missing() -> None:
    script = (
        "import sys; from hvpsbridge.cli import streams; streams.STUCK_SECONDS = 0.2;"
        "streams.prepare_streams();"
        "sys.stderr.write('x' * 5000 + '\\n'); sys.stderr.flush(); print('written', flush=True);"
        "sys.stdin.readline(); sys.stderr.write('last\\n')"
    )
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writer) as process:
        os.close(writer)
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        assert os.read(reader, 8192) == b"x" * 4096
        process.communicate(b"\n", timeout=60)
    assert os.read(reader, 8192) == (
        b"\nhvps: 905 bytes of output are missing here, since nobody read them\nlast\n"
    )
    os.close(reader)


def test_a_removed_working_directory_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    gone = f"cd {tmp_path / 'gone'} && rmdir {tmp_path / 'gone'}; "
    for arguments in (
        ("list", "--repo", "relative"),
        ("repo", "init", "relative", "--plain"),
        ("restore", "web@latest", "--to", "raw:x", "--repo", str(tmp_path)),
        ("key", "export", "--to", "relative", "--repo", str(tmp_path)),
    ):
        (tmp_path / "gone").mkdir(exist_ok=True)
        done = _hvps(*arguments, before=gone)
        assert done.code == 5
        assert "the working directory cannot be used (No such file or directory)" in done.err
        assert done.err.count("\n") == 1


def _stranger() -> str:
    """The start of a command line that runs without rights and as a user without an account."""
    enter = "unshare --user --map-user=54321 --map-group=54321 "
    if subprocess.run(f"{enter} true", shell=True, check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this machine does not allow user namespaces")
    return enter


def test_an_account_without_home_and_passwd_entry_backs_up(world: World) -> None:
    enter = _stranger()
    playbook = world.playbook()
    no_home = "unset HOME XDG_CACHE_HOME XDG_CONFIG_HOME; "
    done = _hvps("run", playbook, before=no_home + enter, LC_ALL="C")
    assert (done.code, done.err.count("Traceback")) == (0, 0), done.err
    done = _hvps("list", "--repo", "~/repo", before=no_home + enter)
    assert (done.code, done.err) == (
        5,
        "hvps: ~/repo: no home folder is known for ~; use an absolute path\n",
    )

    # A home folder that belongs to somebody else, and no folder for temporary files.
    closed = world.folder / "closed"
    closed.mkdir(mode=0o000)
    done = _hvps("run", playbook, before=f"unset XDG_CACHE_HOME XDG_CONFIG_HOME; {enter}", HOME=str(closed))
    assert done.code == 0, done.err
    assert f"{closed}/.config/hvps/config.yaml cannot be looked up (Permission denied)" in done.err
    assert "index cache" in done.err
    for path in ("in", "in/deep.raw"):
        arguments = ("restore", f"{NAME}@latest", "--repo", world.repository, "--to", f"raw:{closed}/{path}")
        done = _hvps(*arguments, "-q", before=enter)
        assert done.code == 5
        assert f"{closed}" in done.err
        assert "Permission denied" in done.err
        assert "bug" not in done.err


def test_half_a_character_in_one_name_hides_no_other_vm(hvps: Hvps, served: Served, tmp_path: Path) -> None:
    world = World(hvps, served, tmp_path)
    world.build("web01", "web_xprod_01")
    with Control(served.folder) as control:
        control.create_vm("cut \ud83d", folder="C:\\VMs\\cut")
    done = hvps("inventory", served.url, *served.connection, "--json")
    assert done.code == 0, done.err
    names = {vm["name"] for vm in json.loads(done.out)["vms"]}
    assert names == {"web01", "web_xprod_01", "cut \N{REPLACEMENT CHARACTER}"}
    assert world.run(vms='["web*"]').code == 0


def test_no_process_that_holds_a_key_dumps_its_memory(tmp_path: Path) -> None:
    command = f"sh -c 'ulimit -H -c > {tmp_path / 'limit'}; exit 1'"
    done = _hvps("list", "--repo", tmp_path, "--key-command", command)
    assert (done.code, (tmp_path / "limit").read_text()) == (5, "0\n")
