"""Tests whether a store fulfils its contract, and what else the credentials permit.

Everything is tried with objects under ``probe/``, which are removed if the credentials permit that. A store
that breaks the contract is unsuitable. The rest shows what someone with stolen credentials could do.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from hvpsbridge.errors import HvpsError, ObjectExists, ObjectMissing, StoreError
from hvpsbridge.repository.stores.base import Store
from hvpsbridge.repository.stores.registry import open_store

RACERS = 8
PIECE_BYTES = 300_000


class Holds(StrEnum):
    """The answer to a question."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """A question with its answer.

    Attributes:
        needed: whether NO makes the store unsuitable.
    """

    question: str
    holds: Holds
    needed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """The result of all tests."""

    url: str
    findings: tuple[ProbeResult, ...]

    @property
    def fit(self) -> bool:
        """Whether the store is suitable for a repository."""
        return all(finding.holds is not Holds.NO for finding in self.findings if finding.needed)


@runtime_checkable
class Overwriting(Protocol):
    """A store that can try to overwrite an object, which no repository does."""

    def overwrite(self, name: str, data: bytes) -> None:
        """Store ``data`` under a name that is taken."""
        ...


def probe(url: str) -> ProbeReport:
    """Test the store at ``url``; a missing directory is created, as by ``repo init``.

    Raises:
        ConfigurationError: the URL is not valid.
        StoreError: the store cannot be reached, or nothing can be written.
    """
    store = open_store(url, create=True)
    try:
        return probe_store(store)
    finally:
        store.close()


def probe_store(store: Store) -> ProbeReport:
    """Test a store, as :func:`probe`."""
    prefix = f"probe/{secrets.token_hex(8)}"
    one = f"{prefix}/one"
    data = secrets.token_bytes(PIECE_BYTES)
    store.put(one, data)
    try:
        findings = [
            _ask("objects are read as they were written", lambda: store.get(one) == data),
            _ask("ranges are exact", lambda: _ranges(store, one, data)),
            _ask("a new object is listed immediately", lambda: _listed(store, prefix, one)),
            _ask("a missing object is reported as missing", lambda: _missing(store, prefix)),
            _ask("a taken name is refused (conditional create)", lambda: _refuses(store, one, data)),
            _ask(
                "only one of several requests creates a name",
                lambda: _race(store, f"{prefix}/race"),
            ),
            _ask("an object is invisible until it is complete", lambda: _whole(store, f"{prefix}/sink")),
            _ask("objects survive a power loss after a barrier", lambda: _durable(store), needed=False),
            *_rights(store, one, data),
        ]
    finally:
        for name in (one, f"{prefix}/race", f"{prefix}/sink"):
            with contextlib.suppress(HvpsError):
                store.delete(name)
    return ProbeReport(store.url, tuple(findings))


def check_creation(store: Store) -> None:
    """Return if the store refuses names that are taken, also when several requests come at once.

    Without that, runs would overwrite the leases and objects of each other.

    Raises:
        StoreError: it does not, or nothing can be written.
    """
    prefix = f"probe/{secrets.token_hex(8)}"
    one, race = f"{prefix}/one", f"{prefix}/race"
    data = secrets.token_bytes(1000)
    try:
        store.put(one, data)
        if not _refuses(store, one, data) or not _race(store, race):
            what = "the store overwrites names that are taken (it ignores conditional creation)"
            raise StoreError(store.url, "use", "it for a repository", f"{what}; use another store or server")
    finally:
        for name in (one, race):
            with contextlib.suppress(HvpsError):
                store.delete(name)


def _ask(question: str, answer: Callable[[], bool], *, needed: bool = True) -> ProbeResult:
    started = time.monotonic()
    try:
        holds = Holds.YES if answer() else Holds.NO
    except StoreError as err:
        return ProbeResult(question, Holds.NO, needed, str(err))
    return ProbeResult(question, holds, needed, f"{time.monotonic() - started:.2f} s")


def _ranges(store: Store, name: str, data: bytes) -> bool:
    exact = store.get_range(name, 1000, 70_000) == data[1000:71_000] and store.size(name) == len(data)
    try:
        store.get_range(name, PIECE_BYTES - 10, 20)
    except StoreError:
        return exact
    return False


def _listed(store: Store, prefix: str, name: str) -> bool:
    return [(info.name, info.size_bytes) for info in store.list(prefix)] == [(name, PIECE_BYTES)]


def _missing(store: Store, prefix: str) -> bool:
    try:
        store.get(f"{prefix}/none")
    except ObjectMissing:
        return True
    return False


def _refuses(store: Store, name: str, data: bytes) -> bool:
    try:
        store.put(name, b"another")
    except ObjectExists:
        return store.get(name) == data
    return False


def _race(store: Store, name: str) -> bool:
    won: list[bytes] = []
    together = threading.Barrier(RACERS)

    def create(mine: bytes) -> None:
        together.wait()
        with contextlib.suppress(StoreError):
            store.put(name, mine)
            won.append(mine)

    threads = [threading.Thread(target=create, args=(secrets.token_bytes(1000),)) for _ in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(won) == 1 and store.get(name) == won[0]


def _whole(store: Store, name: str) -> bool:
    sink = store.sink(name)
    try:
        sink.write(b"half")
        try:
            store.get(name)
        except ObjectMissing:
            sink.publish()
            return store.get(name) == b"half"
        return False
    finally:
        sink.abandon()


def _durable(store: Store) -> bool:
    store.commit_barrier()
    return store.durable


def _rights(store: Store, name: str, data: bytes) -> list[ProbeResult]:
    """What these credentials permit besides adding objects."""
    refused = Holds.UNKNOWN
    detail = "a directory: anyone with write access can change its files"
    if isinstance(store, Overwriting):
        try:
            store.overwrite(name, b"overwritten")
            refused = Holds.YES if store.get(name) == data else Holds.NO
            detail = (
                "the store accepted it, but kept the old bytes"
                if refused is Holds.YES
                else "it was overwritten"
            )
        except StoreError as err:
            refused, detail = Holds.YES, str(err)
    else:
        refused = Holds.NO
    findings = [ProbeResult("overwriting is refused", refused, False, detail)]
    try:
        store.delete(name)
        store.size(name)
        findings.append(ProbeResult("deleting is refused", Holds.YES, False, "the object still exists"))
    except ObjectMissing:
        findings.append(ProbeResult("deleting is refused", Holds.NO, False, "these credentials can delete"))
    except StoreError as err:
        findings.append(ProbeResult("deleting is refused", Holds.YES, False, str(err)))
    versions = Holds.NO if store.keeps_versions else Holds.YES
    detail = "it keeps deleted objects as old versions; see docs/stores.md#buckets-with-versions"
    findings.append(
        ProbeResult("deleting frees space", versions, False, detail if store.keeps_versions else "")
    )
    locked = all(finding.holds is Holds.YES for finding in findings[:2])
    findings.append(
        ProbeResult(
            "object lock",
            Holds.YES if locked else Holds.UNKNOWN,
            False,
            "these credentials can neither overwrite nor delete objects"
            if locked
            else "versioning and retention cannot be detected; check the settings of the bucket",
        )
    )
    return findings
