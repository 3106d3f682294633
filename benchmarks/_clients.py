"""The hosts of a wire benchmark, and how hvps, pypsrp and plain HTTP read from one."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pypsrp.client import Client
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from benchmarks._canned import PASSWORD, USER
from benchmarks._samples import Clock, Sample
from hvpsbridge.formats.wire import decode_block
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.psrp.bulk import BulkPipeline
from hvpsbridge.secret import Secret
from tests import kerberos

HERE = Path(__file__).resolve().parent


@contextmanager
def process(*arguments: str) -> Iterator[dict[str, Any]]:
    """A serving process; the JSON that it printed at its start."""
    served = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE.parent,
    )
    assert served.stdout is not None
    assert served.stdin is not None
    try:
        line = served.stdout.readline()
        if not line:
            raise SystemExit(f"{arguments[0]} did not start")
        yield json.loads(line)
    finally:
        served.stdin.close()
        served.wait(timeout=30)


def canned(shape: str, *options: str) -> Any:
    """A canned host in a separate process."""
    return process(str(HERE / "_canned.py"), "--shape", shape, *options)


def connection(host: dict[str, Any], auth: str = "basic") -> HostConnection:
    """How hvps reaches a host of the benchmarks."""
    user, password = account(auth)
    ca = Path(host["ca"]) if host.get("ca") else None
    return HostConnection(
        name="bench", address=host["url"], user=user, password=Secret(password), auth=auth, ca=ca
    )  # type: ignore[arg-type]


def account(auth: str) -> tuple[str, str]:
    """User and password by scheme."""
    if auth == "kerberos":
        return kerberos.PRINCIPAL, kerberos.PASSWORD
    return (f"HV01\\{USER}" if auth == "ntlm" else USER), PASSWORD


def stock_wsman(host: dict[str, Any], auth: str = "basic") -> WSMan:
    """pypsrp as its users configure it."""
    where = urlsplit(host["url"])
    user, password = account(auth)
    return WSMan(
        where.hostname or "",
        port=where.port,
        ssl=where.scheme == "https",
        auth=auth,
        username=user,
        password=password,
        encryption="never" if auth == "basic" else "auto",
        cert_validation=host.get("ca") or True,
        no_proxy=True,
        max_envelope_size=512_000,
    )


def hvps_run(host: dict[str, Any], payload_bytes: int, *, check: bool = False, auth: str = "basic") -> Sample:
    """Read from a canned host with hvps, and drop the blocks or check their digests."""
    fallbacks = BulkPipeline.fallbacks
    with HyperVHost.connect(connection(host, auth)) as session:
        source = session.open_reader("bench")
        try:
            # The first reply goes through pypsrp and opens the connection.
            source.receive(5)
            before, got = source.wire_bytes, 0
            with Clock() as clock:
                while got < payload_bytes:
                    for block in source.receive(5):
                        got += len(block)
                        if check:
                            decode_block(block)
            sample = Sample(got, clock.seconds, clock.cpu_seconds, source.wire_bytes - before)
        finally:
            source.close()
    if BulkPipeline.fallbacks != fallbacks:
        raise SystemExit("a reply was left to pypsrp, so nothing was measured")
    return sample


def stock_run(
    host: dict[str, Any], payload_bytes: int, *, check: bool = False, auth: str = "basic"
) -> Sample:
    """Read the same bytes with ``PowerShell.poll_invoke``, and drop its output."""
    wsman = stock_wsman(host, auth)
    pool = RunspacePool(wsman)
    pool.open()
    shell = PowerShell(pool)
    shell.add_script("bench")
    shell.begin_invoke()
    shell.poll_invoke()
    got = 0
    with Clock() as clock:
        while got < payload_bytes:
            shell.poll_invoke()
            for item in shell.output:
                block = item.extended_properties["Block"]
                got += len(block)
                if check:
                    decode_block(block)
            shell.output.clear()
    wsman.close()
    return Sample(got, clock.seconds, clock.cpu_seconds)


def get_run(host: dict[str, Any], wire_bytes: int) -> Sample:
    """Get as many bytes by plain HTTP, one reply per request, over one connection."""
    where = urlsplit(host["url"])
    plain = http.client.HTTPConnection(where.hostname or "", where.port or 80)
    buffer = bytearray(1 << 20)
    got = 0
    with Clock() as clock:
        while got < wire_bytes:
            plain.request("GET", "/data")
            answer = plain.getresponse()
            while count := answer.readinto(buffer):
                got += count
    plain.close()
    return Sample(got, clock.seconds, clock.cpu_seconds, got)


def fetch_run(host: dict[str, Any], size_bytes: int) -> Sample:
    """Read one file with ``Client.fetch``."""
    with tempfile.TemporaryDirectory() as folder:
        client = Client(host["url"].split("//")[1].split(":")[0])
        client.wsman = stock_wsman(host)
        with Clock() as clock:
            client.fetch("bench", str(Path(folder) / "file"))
        assert (Path(folder) / "file").stat().st_size == size_bytes
    return Sample(size_bytes, clock.seconds, clock.cpu_seconds)
