"""``hvps verify --level boots``: what it prints, keeps and leaves."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from hvpsbridge.repository import create_repository
from hvpsbridge.units import MIB
from tests.cli.conftest import Hvps, in_process
from tests.cli.schemas import assert_valid
from tests.repository.conftest import store_point
from tests.tasks.test_restore_libvirt import BOOT
from tests.waiting import wait_until

GENERATION_1 = json.dumps(
    {"vm": {"Generation": 1}, "memory": {"Startup": 64 * MIB}, "processor": {"Count": 1}}
)
MARK = "up and running"
BOOTING = BOOT.ljust(510, b"\0") + b"\x55\xaa" + MARK.encode().ljust(512, b"\0")


@pytest.fixture
def url(tmp_path: Path) -> Path:
    return tmp_path / "repo"


def store(url: Path, start: bytes = b"") -> None:
    """A point of a VM of generation 1 whose disk begins with these bytes."""
    with create_repository(str(url)) as repository:
        store_point(repository, start.ljust(2 * MIB, b"\0"), definition=GENERATION_1)


def options(url: Path, tmp_path: Path) -> tuple[str | Path, ...]:
    quick = "--boot-stay", "1s", "--boot-wait", "600s"
    return ("verify", "--level", "boots", *quick, "--screenshots", tmp_path / "shots", "--repo", url)


def test_a_point_that_boots_keeps_that(hvps: Hvps, url: Path, tmp_path: Path) -> None:
    store(url, BOOTING)
    done = hvps(*options(url, tmp_path), "--boot-mark", MARK)
    assert done.code == 0, done
    assert "shown by serial" in done.out
    assert done.err.startswith("booting web@")
    (point,) = json.loads(hvps("list", "--json", "--repo", url).out)["points"]
    assert [(proof["level"], proof["slot"]) for proof in point["proofs"]] == [("boots", None)]
    assert f"boots {point['proofs'][0]['at'][:10]}" in hvps("list", "--repo", url).out
    shown = hvps("show", "web", "--repo", url).out
    assert shown.count("boots") == 2  # of the disk, and of the point


def test_a_point_that_does_not_is_not_shown(hvps: Hvps, url: Path, tmp_path: Path) -> None:
    store(url)
    done = hvps(*options(url, tmp_path), "web", "--json")
    assert done.code == 3
    document = json.loads(done.out)
    assert_valid("verify", document)
    (check,) = document["boots"]
    assert (document["good"], check["shown"], check["by"]) == (True, False, "")
    assert "No bootable device" in check["what"]
    assert check["accelerator"] in ("kvm", "tcg")
    assert Path(check["screenshot"]).parent == tmp_path / "shots"
    assert Path(check["screenshot"]).stat().st_mode & 0o777 == 0o600
    assert json.loads(hvps("list", "--json", "--repo", url).out)["points"][0]["proofs"] == []


def test_damage_that_the_guest_reads_is_damage(hvps: Hvps, url: Path, tmp_path: Path) -> None:
    store(url, BOOTING)
    for pack in (url / "data").rglob("*"):
        if pack.is_file():
            pack.chmod(0o600)
            pack.write_bytes(bytes(each ^ 1 for each in pack.read_bytes()))
    done = hvps(*options(url, tmp_path), "--boot-mark", MARK)
    assert done.code == 7
    assert done.err.splitlines()[-1].startswith("hvps: ")


@pytest.mark.parametrize("where", ["inside", "file"])
def test_a_folder_of_screenshots_that_cannot_be_used_is_one_line(
    where: str, hvps: Hvps, url: Path, tmp_path: Path
) -> None:
    store(url)
    (tmp_path / "file").write_text("")
    folder = url / "shots" if where == "inside" else tmp_path / "file"
    done = hvps("verify", "--level", "boots", "--screenshots", folder, "--repo", url)
    assert done.code == 5
    assert str(folder) in done.err.splitlines()[-1]


def test_without_qemu_it_says_what_to_install(
    hvps: Hvps, url: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(url)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = hvps(*options(url, tmp_path))
    assert done.code == 5
    assert "install qemu-system-x86" in done.err


def test_a_killed_command_leaves_no_guest(url: Path, tmp_path: Path) -> None:
    store(url, BOOTING)
    command = in_process(*options(url, tmp_path), "--boot-mark", "never comes", "--boot-stay", "100s")
    children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
    wait_until(lambda: _is_qemu(children.read_text()))
    guest = children.read_text().split()[0]
    command.send_signal(signal.SIGKILL)
    command.communicate()
    wait_until(lambda: not _is_qemu(guest))


def _is_qemu(process: str) -> bool:
    """Whether the process of this number is QEMU, and not a zombie."""
    try:
        return os.readlink(f"/proc/{process.split()[0]}/exe").rpartition("/")[2].startswith("qemu-system")
    except (OSError, IndexError):
        return False
