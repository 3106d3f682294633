"""Compares reading with hvps to pypsrp and plain HTTP, and measures it with the real engine.

Ratios come from alternating runs, five of each by default. Tables show the median, and the smallest and
largest value. The measured code is that of ``hvps backup``: a host connection, a reader pipeline and
``receive``. A run fails if a reply was left to pypsrp.

    python benchmarks/wire.py [--runs 5] [--rows stock,get,...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._clients import canned, connection, fetch_run, get_run, hvps_run, stock_run
from benchmarks._engine_rows import rows_deflate, rows_engine, rows_stopped
from benchmarks._samples import Clock, Table, spread
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.psrp.session import Session
from hvpsbridge.units import MIB
from tests import kerberos

# Messages and copies per measurement; size of a reply with one block of 64 KiB.
EXCHANGES, COPIES = 300, 1000
REPLY_BYTES = 118_000


def rows_stock(runs: int) -> Table:
    """Compared with poll_invoke, with and without digests."""
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
    """Compared with Client.fetch."""
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
    """Compared with plain HTTP."""
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
    """A Kerberos realm for this process and those it starts, if ``auth`` needs one."""
    if auth != "kerberos":
        yield
        return
    with tempfile.TemporaryDirectory() as folder, kerberos.Realm(Path(folder)) as realm:
        os.environ.update(realm.environment, KRB5_KTNAME=str(realm.keytab))
        yield


def rows_security(runs: int) -> Table:
    """Basic, TLS, and message encryption by NTLM and Kerberos, the latter with its own realm."""
    table = Table(
        "Security of the connection, 500 KB replies",
        ["connection", "pypsrp MB/s", "hvps MB/s", "ratio", "hvps CPU s/GB"],
    )
    for name, auth, options in (
        ("Basic over HTTP (loopback only)", "basic", ()),
        ("Basic over TLS", "basic", ("--tls",)),
        ("NTLM, encrypted messages", "ntlm", ("--scheme", "ntlm")),
        ("Kerberos, encrypted messages", "kerberos", ("--scheme", "kerberos")),
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
    """A slow host, with several pipelines."""
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


def rows_exchange(runs: int) -> Table:
    """A message and its reply: through requests, as pypsrp sends it, and on the raw connection."""
    table = Table(
        "A message of pypsrp and its reply, CPU ms of this process",
        ["requests", "raw connection", "ratio"],
    )
    slow, fast = [], []
    with canned("full") as host:
        for _ in range(runs):
            for found, may_use_raw in ((slow, False), (fast, True)):
                session = Session.open(connection(host))
                client = session.client()
                client._may_use_raw = may_use_raw
                with Clock() as clock:
                    for _ in range(EXCHANGES):
                        client.pool.shell.send("stdin", b"x" * 200, command_id=str(client.pool.id))
                found.append(1000 * clock.cpu_seconds / EXCHANGES)
                session.close()
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    table.rows.append([spread(slow, 2), spread(fast, 2), spread(ratios)])
    return table


def rows_copy(runs: int) -> Table:
    """The kernel's copy of a reply from a socket, by the offset of the buffer in a page."""
    table = Table(
        f"Receiving {REPLY_BYTES} available bytes, CPU us", ["bytes into a page", "us", "of the fastest"]
    )
    found: dict[int, list[float]] = {into: [] for into in (0, 16, 32, 80, 2048)}
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    with ours, theirs, mmap.mmap(-1, 2 * REPLY_BYTES) as pages, memoryview(pages) as view:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * REPLY_BYTES)
        for _ in range(runs):
            for into, taken in found.items():
                target = view[into : into + REPLY_BYTES]
                spent = 0.0
                for _ in range(COPIES):
                    theirs.sendall(bytes(REPLY_BYTES))
                    before, at = time.thread_time(), 0
                    while at < REPLY_BYTES:
                        at += ours.recv_into(target[at:])
                    spent += time.thread_time() - before
                target.release()
                taken.append(1e6 * spent / COPIES)
    fastest = min(statistics.median(taken) for taken in found.values())
    for into, taken in found.items():
        table.rows.append([str(into), spread(taken), f"{statistics.median(taken) / fastest:.1f}"])
    return table


ROWS: dict[str, Callable[[int], Table]] = {
    "stock": rows_stock,
    "get": rows_get,
    "security": rows_security,
    "delay": rows_delay,
    "engine": rows_engine,
    "deflate": rows_deflate,
    "stopped": rows_stopped,
    "exchange": rows_exchange,
    "copy": rows_copy,
    "fetch": rows_fetch,
}


def main() -> None:
    """Measure the chosen rows and print their tables."""
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
