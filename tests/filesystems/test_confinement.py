"""What the process that parses file systems may do."""

from __future__ import annotations

import logging
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from hvpsbridge.errors import FilesUnreadable
from hvpsbridge.filesystems import client
from tests.filesystems import images
from tests.filesystems.test_reading import all_of, content_of, opened

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"), reason="no filter for this architecture"
)

CONFINED = """
import os, sys, socket, pathlib
from hvpsbridge.filesystems import confinement
inside, outside = socket.socketpair()
open_file = os.open(sys.argv[1], os.O_RDWR)
assert confinement.confine_{process}()
def refused(call, *arguments):
    try:
        call(*arguments)
    except PermissionError:
        return
    raise SystemExit(f"{{call}} {{arguments}} was allowed")
"""
PARSER = """
refused(socket.socket)
refused(os.fork)
refused(os.execv, "/bin/true", ["true"])
refused(os.posix_spawn, "/bin/true", ["true"], {})
refused(os.kill, os.getppid(), 0)
for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_APPEND, os.O_TMPFILE | os.O_RDWR):
    refused(os.open, sys.argv[1], flags)
refused(os.unlink, sys.argv[1])
refused(os.rename, sys.argv[1], sys.argv[1] + "2")
refused(os.mkdir, sys.argv[1] + "2")
refused(os.truncate, sys.argv[1], 0)
refused(os.chmod, sys.argv[1], 0o777)
refused(os.memfd_create, "name")
inside.sendall(b"x")
assert outside.recv(1) == b"x"
os.pwrite(open_file, b"written", 0)
assert pathlib.Path(sys.argv[1]).read_bytes() == b"written"
import zipfile
"""
TOOL = """
refused(socket.socket)
assert os.spawnv(os.P_WAIT, "/bin/sh", ["sh", "-c", "echo more >> " + sys.argv[1]]) == 0
"""


@pytest.mark.parametrize(("process", "script"), [("parser", PARSER), ("tool", TOOL)])
def test_the_kernel_refuses_what_a_process_does_not_need(tmp_path: Path, process: str, script: str) -> None:
    file = tmp_path / "file"
    file.touch()
    program = CONFINED.format(process=process) + script
    done = subprocess.run([sys.executable, "-c", program, file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert file.exists()


def test_the_process_that_parses_is_confined(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = images.ext4(tmp_path / "image", images.tree(tmp_path / "source"))
    with caplog.at_level(logging.DEBUG), opened(image) as files:
        files.volumes()
        assert files.is_confined
    assert "without a filter" not in caplog.text


@pytest.mark.parametrize(
    ("letter", "payload"),
    [
        ("WANT", "wire.READ.pack(7, 0, 512)"),
        ("WANT", "b'short'"),
        ("TOOL", "b'[\"rm\", 0]'"),
        ("TOOL", "b'[\"e2fsck\", 3]'"),
        ("TOOL", "b'{'"),
    ],
)
def test_a_process_that_was_taken_over_gets_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, letter: str, payload: str
) -> None:
    program = (
        "import socket, sys; from hvpsbridge.filesystems import wire;"
        "connection = socket.socket(fileno=int(sys.argv[1])); wire.receive(connection);"
        f"wire.send(connection, wire.{letter}, {payload}); wire.receive(connection)"
    )
    monkeypatch.setattr(client, "_PROGRAM", ("-c", program))
    with (
        opened(images.empty(tmp_path / "image", 4096)) as files,
        pytest.raises(FilesUnreadable, match="not there"),
    ):
        files.volumes()


def test_without_support_of_the_kernel_it_parses_all_the_same_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program = (
        "from hvpsbridge.filesystems import confinement, worker;"
        "confinement._ARCHITECTURES.clear();"
        "worker.main()"
    )
    monkeypatch.setattr(client, "_PROGRAM", ("-c", program))
    source = images.tree(tmp_path / "source")
    image = images.ext4(tmp_path / "image", source)
    with caplog.at_level(logging.DEBUG), opened(image) as files:
        files.volumes()
        assert not files.is_confined
        read = content_of(files.read(0, all_of(files, 0)[b"/a/b/big.bin"]))
        assert read == (source / "a/b/big.bin").read_bytes()
    assert "without a filter of system calls" in caplog.text
