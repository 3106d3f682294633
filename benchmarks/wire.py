"""What the wire gives: the fast reader against pypsrp, plain HTTP and the real engine (issue 5's table).

Ratios come from runs side by side, alternating, five of each by default; the table shows the median and
the spread (smallest to largest). The code measured is the code ``hvps backup`` calls: a host connection, a
reader pipeline and ``receive``. A run in which a reply went pypsrp's way fails.

    python benchmarks/wire.py [--runs 5] [--rows stock,digests,...] [--json FILE]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pypsrp.client import Client
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from benchmarks._canned import PASSWORD, USER
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.wire import Request, decode_block
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.psrp.bulk import BulkPipeline
from hvpsbridge.receiver.settings import CREDIT, ReadSettings
from hvpsbridge.secret import Secret
from hvpsbridge.units import MIB
from tests import kerberos

HERE = Path(__file__).resolve().parent
CHUNK = 64 * 1024
# .NET compiles again what runs often; on two cores that is over after some 200 MB in each process.
WARM_PASSES, MEASURED_PASSES = 5, 4


@dataclass
class Sample:
    """One measurement: payload bytes in wall and processor seconds of this process."""

    payload_bytes: int
    seconds: float
    cpu_seconds: float
    wire_bytes: int = 0

    @property
    def rate(self) -> float:
        """Payload MB/s."""
        return self.payload_bytes / 1e6 / self.seconds

    @property
    def cpu_per_gb(self) -> float:
        """Processor seconds of this process for a GB of payload."""
        return self.cpu_seconds / (self.payload_bytes / 1e9)


@dataclass
class HostCosts:
    """What a run cost the host's PowerShell processes together, and its WSMan front; the largest process."""

    cpu_seconds: float
    front_cpu_seconds: float
    before_bytes: int
    peak_bytes: int


@dataclass
class Table:
    """Rows of one table as text, and as values for ``--json``."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)

    def show(self) -> None:
        print(f"\n### {self.title}\n\n| " + " | ".join(self.columns) + " |")
        print("|" + "---|" * len(self.columns))
        for row in self.rows:
            print("| " + " | ".join(row) + " |")
        sys.stdout.flush()


def spread(values: list[float], digits: int = 1) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


class Clock:
    """Wall and processor time of a block of code."""

    def __enter__(self) -> Clock:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._wall
        self.cpu_seconds = time.process_time() - self._cpu


# -- hosts ---------------------------------------------------------------------------------------


@contextmanager
def process(*arguments: str) -> Iterator[dict[str, Any]]:
    """A serving process; gives what it said about itself."""
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
    """A canned host in a process of its own."""
    return process(str(HERE / "_canned.py"), "--shape", shape, *options)


def connection(host: dict[str, Any], auth: str = "basic") -> HostConnection:
    """How hvps reaches a host of ours."""
    user, password = account(auth)
    ca = Path(host["ca"]) if host.get("ca") else None
    return HostConnection("bench", host["url"], user=user, password=Secret(password), auth=auth, ca=ca)  # type: ignore[arg-type]


def account(auth: str) -> tuple[str, str]:
    """Who logs on, by scheme."""
    if auth == "kerberos":
        return kerberos.PRINCIPAL, kerberos.PASSWORD
    return (f"HV01\\{USER}" if auth == "ntlm" else USER), PASSWORD


def stock_wsman(host: dict[str, Any], auth: str = "basic") -> WSMan:
    """pypsrp as its users reach a host."""
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


# -- clients -------------------------------------------------------------------------------------


def hvps_run(host: dict[str, Any], payload_bytes: int, *, check: bool = False, auth: str = "basic") -> Sample:
    """The fast reader on a canned host, to a null sink or with every block's digest checked."""
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
        raise SystemExit("a reply went pypsrp's way: nothing was measured")
    return sample


def stock_run(
    host: dict[str, Any], payload_bytes: int, *, check: bool = False, auth: str = "basic"
) -> Sample:
    """``PowerShell.poll_invoke`` on the same bytes, its output taken off and dropped."""
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
    """Plain HTTP GET of as many bytes, one reply's worth a request, over one connection."""
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
    """``Client.fetch`` of one file."""
    with tempfile.TemporaryDirectory() as folder:
        client = Client(host["url"].split("//")[1].split(":")[0])
        client.wsman = stock_wsman(host)
        with Clock() as clock:
            client.fetch("bench", str(Path(folder) / "file"))
        assert (Path(folder) / "file").stat().st_size == size_bytes
    return Sample(size_bytes, clock.seconds, clock.cpu_seconds)


# -- rows ----------------------------------------------------------------------------------------


def rows_stock(runs: int) -> Table:
    """Against poll_invoke, with and without digests."""
    table = Table(
        "Same reply bytes, payload MB/s",
        ["replies", "digests", "pypsrp", "hvps", "ratio", "to reach", "hvps CPU s/GB"],
    )
    goals = {("windows", False): 7, ("full", False): 13, ("windows", True): 5, ("full", True): 9}
    for shape in ("windows", "full"):
        with canned(shape) as host:
            for check in (False, True):
                stock, fast = [], []
                for _ in range(runs):
                    stock.append(stock_run(host, 32 * MIB, check=check))
                    fast.append(hvps_run(host, 384 * MIB, check=check))
                ratios = [ours.rate / theirs.rate for ours, theirs in zip(fast, stock, strict=True)]
                table.rows.append(
                    [
                        f"{shape}, {host['payload_per_reply'] / 1000:.0f} kB of payload",
                        "checked" if check else "-",
                        spread([s.rate for s in stock]),
                        spread([s.rate for s in fast], 0),
                        spread(ratios),
                        str(goals[shape, check]),
                        spread([s.cpu_per_gb for s in fast]),
                    ]
                )
    return table


def rows_fetch(runs: int) -> Table:
    """Against Client.fetch."""
    size = 64
    table = Table(
        f"Client.fetch, {size} MiB, digests checked", ["Client.fetch MB/s", "hvps MB/s", "ratio", "to reach"]
    )
    theirs, ours = [], []
    for _ in range(runs):
        with canned(f"fetch{size}") as host:
            theirs.append(fetch_run(host, size * MIB))
        with canned("full") as host:
            ours.append(hvps_run(host, size * MIB, check=True))
    ratios = [a.rate / b.rate for a, b in zip(ours, theirs, strict=True)]
    table.rows.append(
        [spread([s.rate for s in theirs]), spread([s.rate for s in ours], 0), spread(ratios, 0), "50"]
    )
    return table


def rows_get(runs: int) -> Table:
    """Against plain HTTP."""
    table = Table(
        "Plain HTTP GET of the same bytes on the wire, 500 KB replies, wire MB/s",
        ["GET", "hvps", "ratio", "to reach"],
    )
    with canned("full") as host:
        plain, ours = [], []
        for _ in range(runs):
            ours.append(hvps_run(host, 384 * MIB))
            plain.append(get_run(host, ours[-1].wire_bytes))
    wire = [s.wire_bytes / 1e6 / s.seconds for s in ours]
    gets = [s.rate for s in plain]
    table.rows.append(
        [spread(gets, 0), spread(wire, 0), spread([a / b for a, b in zip(wire, gets, strict=True)], 2), "0.5"]
    )
    return table


@contextmanager
def realm_of(auth: str) -> Iterator[None]:
    """A Kerberos realm that this process and those it starts are in, where ``auth`` needs one."""
    if auth != "kerberos":
        yield
        return
    with tempfile.TemporaryDirectory() as folder, kerberos.Realm(Path(folder)) as realm:
        os.environ.update(realm.environment, KRB5_KTNAME=str(realm.keytab))
        yield


def rows_security(runs: int) -> Table:
    """Basic, TLS, and sealing by NTLM and Kerberos, the latter against a realm of its own."""
    table = Table(
        "Security of the connection, 500 KB replies",
        ["connection", "pypsrp MB/s", "hvps MB/s", "ratio", "hvps CPU s/GB"],
    )
    for name, auth, options in (
        ("Basic over HTTP (loopback only)", "basic", ()),
        ("Basic over TLS", "basic", ("--tls",)),
        ("NTLM, sealed messages", "ntlm", ("--scheme", "ntlm")),
        ("Kerberos, sealed messages", "kerberos", ("--scheme", "kerberos")),
    ):
        with realm_of(auth), canned("full", *options) as host:
            stock, fast = [], []
            for _ in range(runs):
                stock.append(stock_run(host, 16 * MIB, auth=auth))
                fast.append(hvps_run(host, 96 * MIB, auth=auth))
        ratios = [a.rate / b.rate for a, b in zip(fast, stock, strict=True)]
        table.rows.append(
            [
                name,
                spread([s.rate for s in stock]),
                spread([s.rate for s in fast], 0),
                spread(ratios),
                spread([s.cpu_per_gb for s in fast]),
            ]
        )
    return table


def rows_delay(runs: int) -> Table:
    """A host that takes its time: several pipelines hide it."""
    table = Table(
        "Delay added to every reply, 500 KB replies, payload MB/s",
        ["delay ms", "pipelines", "expected", "measured", "measured / expected"],
    )
    with canned("full") as host:
        service = (
            host["payload_per_reply"]
            / 1e6
            / statistics.median(hvps_run(host, 128 * MIB).rate for _ in range(runs))
        )
    for delay in (5, 20, 50):
        with canned("full", "--delay-ms", str(delay)) as host:
            for pipelines in (1, 2, 4):
                expected = pipelines * host["payload_per_reply"] / 1e6 / (delay / 1000 + service)
                each = int(expected * 1e6 * 2 / pipelines)
                rates = [_several(host, pipelines, each) for _ in range(runs)]
                share = [rate / expected for rate in rates]
                table.rows.append(
                    [str(delay), str(pipelines), f"{expected:.1f}", spread(rates), spread(share, 2)]
                )
    return table


def _several(host: dict[str, Any], pipelines: int, each: int) -> float:
    """Payload MB/s of several pipelines of one shell."""
    with HyperVHost.connect(connection(host)) as session:
        sources = [session.open_reader("bench") for _ in range(pipelines)]
        for source in sources:
            source.receive(5)

        def pull(source: Any) -> None:
            got = 0
            while got < each:
                got += sum(map(len, source.receive(5)))

        threads = [threading.Thread(target=pull, args=(source,)) for source in sources]
        with Clock() as clock:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for source in sources:
            source.close()
    return pipelines * each / 1e6 / clock.seconds


# -- the real engine ---------------------------------------------------------------------------------


def rows_engine(runs: int) -> Table:
    """The scripts in the real engine behind the simulated host's WSMan: at first, and once it is warm."""
    table = Table(
        "Real engine as host, incompressible disk, digests checked",
        [
            "pipelines",
            "shells",
            "first pass MB/s",
            "its host CPU s/GB",
            "warm MB/s",
            "PowerShell CPU s/GB",
            "front CPU s/GB",
            "hvps CPU s/GB",
            "hvps share of a core",
            "host process MiB before, at its peak",
        ],
    )
    with process(str(HERE / "_engine.py"), "random") as host:
        ways = ((1, 1), (1, 2), (1, 4), (2, 2), (2, 4))
        found: dict[tuple[int, int], list[list[tuple[Sample, HostCosts]]]] = {way: [] for way in ways}
        for _ in range(runs):
            for way in ways:
                found[way].append(engine_passes(host, *way, passes=(1, WARM_PASSES, MEASURED_PASSES)))
        for (shells, pipelines), taken in found.items():
            first, warm = [one[0] for one in taken], [one[2] for one in taken]
            table.rows.append(
                [
                    str(pipelines),
                    str(shells),
                    spread([s.rate for s, _ in first]),
                    spread([t.cpu_seconds / (s.payload_bytes / 1e9) for s, t in first]),
                    spread([s.rate for s, _ in warm]),
                    spread([t.cpu_seconds / (s.payload_bytes / 1e9) for s, t in warm]),
                    spread([t.front_cpu_seconds / (s.payload_bytes / 1e9) for s, t in warm]),
                    spread([s.cpu_per_gb for s, _ in warm]),
                    spread([100 * s.cpu_seconds / s.seconds for s, _ in warm], 0) + " %",
                    f"{max(t.before_bytes for _, t in first) / MIB:.0f}, "
                    f"{max(t.peak_bytes for _, t in warm) / MIB:.0f}",
                ]
            )
    return table


def rows_deflate(runs: int) -> Table:
    """Compression on the host."""
    table = Table(
        "Real engine, half-compressible disk, 1 shell", ["pipelines", "deflate", "disk MB/s", "wire / disk"]
    )
    with process(str(HERE / "_engine.py"), "half") as host:
        for pipelines in (1, 2):
            for deflate in (False, True):
                samples = [engine_run(host, 1, pipelines, deflate=deflate)[0] for _ in range(runs)]
                table.rows.append(
                    [
                        str(pipelines),
                        "on" if deflate else "off",
                        spread([s.rate for s in samples]),
                        spread([s.wire_bytes / s.payload_bytes for s in samples], 2),
                    ]
                )
    return table


def engine_run(
    host: dict[str, Any], shells: int, pipelines: int, *, deflate: bool
) -> tuple[Sample, HostCosts]:
    """A whole disk once, by processes that are warm."""
    return engine_passes(host, shells, pipelines, passes=(WARM_PASSES, 1), deflate=deflate)[1]


def engine_passes(
    host: dict[str, Any], shells: int, pipelines: int, *, passes: tuple[int, ...], deflate: bool = False
) -> list[tuple[Sample, HostCosts]]:
    """Whole disks with the default settings, so many times each, by the same processes on the host.

    Windows are dealt out to the pipelines. Compiling the C# is not counted; what .NET compiles on the way is.
    """
    settings = ReadSettings()
    sessions = [HyperVHost.connect(connection(host)) for _ in range(shells)]
    # An attach belongs to one process: each shell reads a disk of its own.
    sources = [sessions[n % shells].open_reader(host["paths"][n % shells]) for n in range(pipelines)]
    windows = list(range(0, host["size"], settings.window_bytes))
    got = [0] * pipelines

    def pull(index: int, count: int) -> None:
        source, mine = sources[index], windows[index::pipelines] * count
        asked, answered = 0, 0
        while answered < len(mine):
            while asked < min(len(mine), answered + CREDIT):
                extent = (Extent(mine[asked], min(settings.window_bytes, host["size"] - mine[asked])),)
                request = Request(asked, extent, CHUNK, settings.block_bytes, allow_deflate=deflate)
                source.send(request.pack())
                asked += 1
            for data in source.receive(5):
                block = decode_block(data)
                got[index] += sum(piece.extent.length for piece in block.pieces)
                answered += block.last

    for source in sources:
        source.send(Request(0, (Extent(0, 4096),), CHUNK, MIB).pack())
        while not source.receive(5):
            pass
    processes = [session.host_info().process_id for session in sessions]
    before = max(map(_resident_bytes, processes))
    taken = []
    for count in passes:
        got[:] = [0] * pipelines
        wire_before = sum(source.wire_bytes for source in sources)
        cpu_before, front_before = sum(map(_cpu_seconds, processes)), _cpu_seconds(host["pid"])
        threads = [threading.Thread(target=pull, args=(n, count)) for n in range(pipelines)]
        with Clock() as clock:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        wire = sum(source.wire_bytes for source in sources) - wire_before
        costs = HostCosts(
            sum(map(_cpu_seconds, processes)) - cpu_before,
            _cpu_seconds(host["pid"]) - front_before,
            before,
            max(map(_peak_bytes, processes)),
        )
        taken.append((Sample(sum(got), clock.seconds, clock.cpu_seconds, wire), costs))
    for source in sources:
        source.close()
    for session in sessions:
        session.close()
    return taken


def _cpu_seconds(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_bytes(process_id: int) -> int:
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def rows_stopped(runs: int) -> Table:
    """A reader that stops reading."""
    table = Table(
        "A reader that stops for 5 s with two windows of 16 MiB asked for (real engine)",
        ["host process MiB before", "after", "blocks then"],
    )
    with process(str(HERE / "_engine.py"), "random") as host, HyperVHost.connect(connection(host)) as session:
        pid = session.host_info().process_id
        source = session.open_reader(host["paths"][0])
        source.send(Request(0, (Extent(0, 16 * MIB),), CHUNK, MIB).pack())
        source.send(Request(1, (Extent(16 * MIB, 16 * MIB),), CHUNK, MIB).pack())
        first = source.receive(10)
        before = _resident_bytes(pid)
        time.sleep(5)
        after = _resident_bytes(pid)
        blocks = len(first)
        while blocks < 32:
            blocks += len(source.receive(10))
        source.close()
        table.rows.append([f"{before / MIB:.0f}", f"{after / MIB:.0f}", f"{blocks} of 32"])
    return table


def _resident_bytes(process_id: int) -> int:
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


ROWS: dict[str, Callable[[int], Table]] = {
    "stock": rows_stock,
    "get": rows_get,
    "security": rows_security,
    "delay": rows_delay,
    "engine": rows_engine,
    "deflate": rows_deflate,
    "stopped": rows_stopped,
    "fetch": rows_fetch,
}


def main() -> None:
    """Run the rows asked for and print their tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", default=",".join(ROWS), help=f"any of {','.join(ROWS)}")
    parser.add_argument("--json", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    tables = []
    for name in options.rows.split(","):
        tables.append(ROWS[name](options.runs))
        tables[-1].show()
    if options.json:
        options.json.write_text(json.dumps([vars(table) for table in tables], indent=1) + "\n")


if __name__ == "__main__":
    main()
