#!/usr/bin/env python3
"""Measures WinRM of a host from here: rates by number of shells, latency, and what a killed client leaves.

Needs hvpsbridge installed. Sends and changes nothing but shells of its own.

Usage: probe_wire.py ADDRESS USER PASSWORD_FILE [--auth ntlm] [--ca FILE] [--shells 1,2,4,8] [--idle SECONDS]
       [--soak GIGABYTES]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from hvpsbridge.host.connection import Authentication, HostConnection
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.psrp.recording import WireRecorder
from hvpsbridge.secret import Secret

LATENCY_CALLS = 20
# How long a host may need to end the shell of a killed client, before it counts as left.
LEFT_SECONDS = 30
GIGABYTE = 1_000_000_000


def main() -> int:
    given = _arguments()
    password = Secret(given.password_file.read_text(encoding="utf-8").splitlines()[0])
    connection = HostConnection(
        name="host",
        address=given.address,
        user=given.user,
        password=password,
        auth=Authentication(given.auth),
        ca=given.ca,
    )
    facts: dict[str, Any] = {"schema": 1}
    facts["wire.latency_seconds"] = _latency(connection)
    facts["wire.rate_bytes"] = {
        shells: round(_rate(connection, shells)) for shells in map(int, given.shells.split(","))
    }
    facts["wire.largest_reply_bytes"] = _largest_reply(connection, given.recordings)
    facts["wire.shell_left_seconds"] = _killed_client(connection)
    if given.soak:
        facts["wire.soak"] = _soak(connection, given.soak * GIGABYTE)
    if given.idle:
        facts["wire.idle"] = _idle(connection, given.idle)
    json.dump(facts, sys.stdout, indent=2)
    print()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("address", help="URL of the WinRM listener, or a host name")
    parser.add_argument("user")
    parser.add_argument("password_file", type=Path, help="its first line is the password")
    parser.add_argument("--auth", default="ntlm", choices=["basic", "ntlm", "negotiate", "kerberos"])
    parser.add_argument("--ca", type=Path, help="CA certificates, PEM")
    parser.add_argument("--shells", default="1,2,4,8", help="how many shells at once, with commas")
    parser.add_argument("--recordings", type=Path, default=Path("recordings"), help="folder for recordings")
    parser.add_argument("--idle", type=float, default=0, metavar="SECONDS", help="idle that long")
    parser.add_argument("--soak", type=int, default=0, metavar="GIGABYTES", help="receive that much")
    return parser.parse_args()


def _latency(connection: HostConnection) -> dict[str, float]:
    with HyperVHost.connect(connection) as host:
        times = []
        for _ in range(LATENCY_CALLS):
            started = time.monotonic()
            host.host_info()
            times.append(time.monotonic() - started)
    times.sort()
    return {"median": round(times[len(times) // 2], 4), "longest": round(times[-1], 4)}


def _rate(connection: HostConnection, shells: int) -> float:
    """Bytes per second of all shells together. Each is a process on the host."""
    rates: list[float] = []

    def measure() -> None:
        with HyperVHost.connect(connection) as host:
            rates.append(host.checks.measure_rate().rate_bytes)

    threads = [threading.Thread(target=measure) for _ in range(shells)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates)


def _largest_reply(connection: HostConnection, folder: Path) -> int:
    with WireRecorder(folder) as recorder:
        with HyperVHost.connect(replace(connection, recorder=recorder)) as host:
            host.checks.measure_rate()
            host.list_vms()
        return recorder.largest_reply_bytes


def _killed_client(connection: HostConnection) -> float | None:
    """How long the shell of a killed client is listed; None if it still is after :data:`LEFT_SECONDS`."""
    run_id = uuid4()

    def victim() -> None:
        HyperVHost.connect(connection, run_id=run_id)
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=victim)
    process.start()
    process.join()
    started = time.monotonic()
    with HyperVHost.connect(connection) as host:
        while time.monotonic() - started < LEFT_SECONDS:
            left = [shell for shell in host.shells() if str(run_id) in shell.name]
            if not left:
                return round(time.monotonic() - started, 3)
            time.sleep(1)
        for shell in left:
            host.end_shell(shell.shell_id)
    return None


def _soak(connection: HostConnection, total_bytes: int) -> dict[str, float]:
    received, rates = 0.0, []
    with HyperVHost.connect(connection) as host:
        while received < total_bytes:
            sample = host.checks.measure_rate()
            received += sample.sent_bytes
            rates.append(sample.rate_bytes)
    return {"samples": len(rates), "slowest": round(min(rates)), "fastest": round(max(rates))}


def _idle(connection: HostConnection, seconds: float) -> dict[str, Any]:
    with HyperVHost.connect(connection) as host:
        before = host.shell_id
        time.sleep(seconds)
        host.host_info()
        return {"seconds": seconds, "same_shell": host.shell_id == before}


if __name__ == "__main__":
    sys.exit(main())
