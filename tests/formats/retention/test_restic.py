"""The counting, compared with that of restic itself.

One snapshot is made by ``restic backup --time``. Copies of it with other times, hosts and tags are written
into the repository as restic's design document describes (AES-256-CTR with Poly1305-AES, named by SHA-256),
since each run of restic spends half a second on its key. ``restic forget --dry-run --json`` decides.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

from hvpsbridge.formats.retention import RetentionPoint, Rules, Span, Why, decide
from tests.conftest import unavailable

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
# As many as there will ever be: restic 0.14 has no word for all.
MANY = 100_000
_COUNTED = {
    "keep_last": "--keep-last",
    "keep_hourly": "--keep-hourly",
    "keep_daily": "--keep-daily",
    "keep_weekly": "--keep-weekly",
    "keep_monthly": "--keep-monthly",
    "keep_yearly": "--keep-yearly",
}
_REASONS = {
    "last snapshot": Why.LAST,
    "hourly snapshot": Why.HOURLY,
    "daily snapshot": Why.DAILY,
    "weekly snapshot": Why.WEEKLY,
    "monthly snapshot": Why.MONTHLY,
    "yearly snapshot": Why.YEARLY,
}
RULES = (
    Rules(keep_last=5),
    Rules(keep_hourly=30),
    Rules(keep_daily=10, keep_weekly=6, keep_monthly=7, keep_yearly=3),
    Rules(keep_last=3, keep_hourly=12, keep_daily=-1, keep_tags=("a,b", "c")),
    Rules(keep_weekly=-1, keep_within=Span(months=1)),
    Rules(keep_monthly=2, keep_within=Span(years=1, months=2, days=3, hours=4)),
    Rules(keep_within=Span(days=2, hours=7)),
)


@dataclass(frozen=True)
class Made:
    """A snapshot: the host takes the place of the VM."""

    zone: str
    host: str
    at: datetime
    tags: tuple[str, ...]


def _moments(chance: random.Random) -> Iterator[tuple[str, datetime]]:
    """Times by host: nights of two years, hours around both changes of clocks, gaps, bursts."""
    first = datetime(2022, 12, 20, 22, 30, tzinfo=UTC)
    for night in range(0, 750, 3):
        yield "nights", first + timedelta(days=night, minutes=chance.randrange(180))
    for change in (
        datetime(2024, 3, 31, tzinfo=UTC),
        datetime(2024, 10, 27, tzinfo=UTC),
        datetime(2024, 4, 7, tzinfo=UTC),
    ):
        for number in range(-20, 30):
            yield "hours", change + timedelta(minutes=37 * number)
    for _ in range(60):
        yield "gaps", datetime(2012, 1, 1, tzinfo=UTC) + timedelta(seconds=chance.randrange(12 * 365 * 86400))
    for _ in range(40):
        yield "bursts", datetime(2024, 12, 31, 20, tzinfo=UTC) + timedelta(minutes=chance.randrange(600))


def snapshots() -> list[Made]:
    chance = random.Random(14)
    found = {
        # restic keeps the order of snapshots of the same moment, so there are none.
        (zone, host, at): Made(
            zone,
            f"{zone.replace('/', '-')}-{host}",
            at.astimezone(ZoneInfo(zone)),
            tuple(tag for tag in "abc" if chance.random() < 0.1),
        )
        for zone in ZONES
        for host, at in _moments(chance)
    }
    return list(found.values())


class Restic:
    """A repository of restic."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "RESTIC_REPOSITORY": str(folder / "repo"),
            "RESTIC_PASSWORD": "x",
        }
        self("init")
        (folder / "file").write_text("content")
        self("backup", "--time", "2020-01-01 00:00:00", "--host", "none", str(folder / "file"))
        (name,) = (folder / "repo" / "snapshots").iterdir()
        self._template = json.loads(self("cat", "snapshot", name.name))
        name.unlink()
        keys = json.loads(self("cat", "masterkey"))
        self._key = base64.b64decode(keys["encrypt"])
        self._mac_k = base64.b64decode(keys["mac"]["k"])
        self._mac_r = base64.b64decode(keys["mac"]["r"])

    def __call__(self, *arguments: str, zone: str = "UTC") -> str:
        command = ["restic", "--no-cache", *arguments]
        environment = {**self._environment, "TZ": zone}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    @property
    def keeps_the_oldest(self) -> bool:
        """Whether it keeps the oldest snapshot, too, while the numbers are not reached (0.17 and later)."""
        version = re.search(r"(\d+)\.(\d+)", self("version"))
        assert version is not None
        return (int(version[1]), int(version[2])) >= (0, 17)

    def add(self, made: Made) -> None:
        content = {
            **self._template,
            "time": made.at.isoformat(),
            "hostname": made.host,
            "tags": list(made.tags),
        }
        nonce = hashlib.sha256(repr(made).encode()).digest()[:16]
        data = (
            Cipher(algorithms.AES(self._key), modes.CTR(nonce))
            .encryptor()
            .update(json.dumps(content).encode())
        )
        pad = Cipher(algorithms.AES(self._mac_k), modes.ECB()).encryptor().update(nonce)
        whole = nonce + data + Poly1305.generate_tag(self._mac_r + pad, data)
        (self._folder / "repo" / "snapshots" / hashlib.sha256(whole).hexdigest()).write_bytes(whole)

    def forget(self, rules: Rules, zone: str) -> dict[tuple[str, datetime], set[Why]]:
        """Reasons of each snapshot of the hosts of a zone that stays, by host and time."""
        arguments = ["forget", "--dry-run", "--json", "--group-by", "host"]
        for name, option in _COUNTED.items():
            if number := getattr(rules, name):
                arguments += [option, str(MANY if number < 0 else number)]
        if rules.keep_within is not None:
            arguments += ["--keep-within", str(rules.keep_within)]
        for tags in rules.keep_tags:
            arguments += ["--keep-tag", tags]
        groups: list[dict[str, Any]] = json.loads(self(*arguments, zone=zone))
        return {
            (reason["snapshot"]["hostname"], _utc(reason["snapshot"]["time"])): {
                _why(match) for match in reason["matches"]
            }
            for group in groups
            if group["host"].startswith(zone.replace("/", "-"))
            for reason in group["reasons"] or ()
        }


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _why(match: str) -> Why:
    if match.startswith("within"):
        return Why.WITHIN
    return Why.TAGS if match.startswith("has tags") else _REASONS[match]


def ours(rules: Rules, made: list[Made]) -> dict[tuple[str, datetime], set[Why]]:
    hosts = {host: UUID(int=number) for number, host in enumerate(sorted({each.host for each in made}))}
    points = [
        RetentionPoint(
            vm_id=hosts[each.host],
            vm_name=each.host,
            point_id=UUID(int=number),
            made=each.at,
            tags=frozenset(each.tags),
        )
        for number, each in enumerate(made)
    ]
    return {
        (vm.vm_name, decision.point.made): whys
        for vm in decide(rules, points, datetime.now(UTC))
        for decision in vm.decisions
        # What restic does not have.
        if (whys := {reason.why for reason in decision.reasons} - {Why.NEWEST, Why.NO_RULE})
    }


@pytest.mark.timeout(300)
def test_the_counting_is_that_of_restic(tmp_path: Path) -> None:
    if shutil.which("restic") is None:
        unavailable("needs restic (Debian: restic)")
    restic = Restic(tmp_path)
    made = snapshots()
    assert len(made) > 1000
    for each in made:
        restic.add(each)
    oldest = {
        (host, min(each.at.astimezone(UTC) for each in made if each.host == host))
        for host in {each.host for each in made}
    }
    if not restic.keeps_the_oldest:
        oldest = set()
    for rules in RULES:
        for zone in ZONES:
            found = ours(
                dataclasses.replace(rules, time_zone=zone), [each for each in made if each.zone == zone]
            )
            wanted = restic.forget(rules, zone)
            assert {key: whys for key, whys in found.items() if key not in oldest} == {
                key: whys for key, whys in wanted.items() if key not in oldest
            }, (rules, zone)
