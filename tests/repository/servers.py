"""Servers that stores are tested against: OpenSSH's sshd and moto's S3, on loopback."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import unavailable
from tests.ports import ReservedPort

ROOT = Path(__file__).parents[2]
SSHD = "/usr/sbin/sshd"


def missing(what: str) -> None:
    """Fail in CI, otherwise skip."""
    unavailable(f"{what} is not installed")


def make_key(path: Path) -> None:
    """Create an SSH key in ``path``, and its public part in the same place with ``.pub``."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def known_host(port: int, key: Path) -> str:
    """The line of known_hosts for a server on ``port`` with the key ``key`` of :func:`make_key`."""
    kind, public, *_ = key.with_suffix(".pub").read_text().split()
    return f"[127.0.0.1]:{port} {kind} {public}\n"


@dataclass
class SshServer:
    """A running sshd for this user."""

    folder: Path
    port: int
    user: str
    process: subprocess.Popen[bytes]

    def url(self, path: Path, *, known_hosts: Path | None = None) -> str:
        known = known_hosts or self.folder / "known_hosts"
        return (
            f"sftp://{self.user}@127.0.0.1:{self.port}{path}?identity={self.folder}/user&known_hosts={known}"
        )


@contextlib.contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Start OpenSSH's sshd on a free port with its own keys."""
    if not Path(SSHD).exists() or shutil.which("ssh-keygen") is None:
        missing("openssh-server")
    for name in ("host", "user"):
        make_key(folder / name)
    reserved = ReservedPort()
    port = reserved.number
    shutil.copy(folder / "user.pub", folder / "authorized")
    (folder / "known_hosts").write_text(known_host(port, folder / "host"))
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/pid\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\nSubsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # privilege separation folder of Debian's sshd
    process = subprocess.Popen(
        [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=(folder / "log").open("wb")
    )
    try:
        _wait_for(port, process)
        yield SshServer(folder, port, pwd.getpwuid(os.getuid()).pw_name, process)
    except ServerDied:
        pytest.fail(f"sshd does not answer: {(folder / 'log').read_text()}")
    finally:
        process.terminate()
        process.wait()
        reserved.close()


@pytest.fixture(scope="session")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """An SSH server; for a ``conftest.py`` to import."""
    with ssh_server(tmp_path_factory.mktemp("ssh")) as server:
        yield server


@dataclass
class S3Server:
    """A running moto server."""

    endpoint: str

    def client(self) -> Any:
        """A client that takes names of any kind."""
        import boto3

        return boto3.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1",
            aws_access_key_id="id", aws_secret_access_key="secret",
        )  # fmt: skip

    def new_bucket(self) -> str:
        name = f"bucket-{uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def url(self, bucket: str, prefix: str = "some/prefix") -> str:
        return f"s3://{bucket}/{prefix}?endpoint={self.endpoint}&region=us-east-1"


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """Start moto's S3 on a free port, in its own process, so that its CPU time is not counted."""
    if importlib.util.find_spec("moto") is None:
        missing("moto[server]")
    reserved = ReservedPort()
    port = reserved.number
    command = [sys.executable, "-m", "tests.repository.moto_server", str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
        try:
            _wait_for(port, process)
            yield S3Server(f"http://127.0.0.1:{port}")
        except ServerDied:
            log.seek(0)
            pytest.fail(f"moto does not answer: {log.read().decode()[-2000:]}")
        finally:
            process.terminate()
            process.wait()
            reserved.close()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server, with its credentials in the environment; for a ``conftest.py`` to import."""
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "id")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield server


class ServerDied(Exception):
    """A server that ended before it answered."""


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until ``process`` accepts connections on ``port``."""
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise ServerDied
