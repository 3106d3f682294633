"""``hvps sim``: a host in another process, and acting as its guests."""

from __future__ import annotations

import json
import random
import stat
from pathlib import Path

import pytest

from tests.waiting import DEADLINE_SECONDS

from .conftest import Hvps, Served, serving

MIB = 1 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(random.Random(1).randbytes(4 * MIB))
    return path


def test_a_served_host_answers_and_can_be_stopped(hvps: Hvps, served: Served) -> None:
    info = json.loads(hvps("sim", "info", "-f", served.folder, "--json").out)
    assert (info["url"], info["engine"], info["pid"]) == (served.url, "builtin", served.process.pid)
    assert stat.S_IMODE((served.folder / "password").stat().st_mode) == 0o600
    assert hvps("sim", "stop", "-f", served.folder).code == 0
    assert served.process.wait(DEADLINE_SECONDS) == 0


def test_being_stopped_by_a_signal_is_not_a_failure(served: Served) -> None:
    served.process.terminate()
    assert served.process.wait(DEADLINE_SECONDS) == 0


def test_a_vm_is_made_from_images_and_its_guest_writes(
    hvps: Hvps, served: Served, image: Path, tmp_path: Path
) -> None:
    folder = ("-f", served.folder)
    assert hvps("sim", "import", "web 01", image, *folder).code == 0
    assert hvps("sim", "disk", "web 01", "2MiB", "--slot", "scsi 0:1", *folder).code == 0
    listed = json.loads(hvps("sim", "list", "--json", *folder).out)["vms"]
    assert [(vm["name"], vm["state"], len(vm["disks"])) for vm in listed] == [("web 01", "running", 2)]

    newer = bytearray(image.read_bytes())
    newer[MIB : MIB + 4096] = bytes(4096)
    (tmp_path / "newer.raw").write_bytes(newer)
    done = hvps("sim", "apply", "web 01", tmp_path / "newer.raw", "--json", *folder)
    assert json.loads(done.out)["written_bytes"] == 4096
    assert hvps("sim", "write", "web 01", "64KiB", "--random", "4KiB", "--seed", "7", *folder).code == 0
    newer[65536 : 65536 + 4096] = random.Random(7).randbytes(4096)

    made = json.loads(hvps("sim", "checkpoint", "web 01", "mine", "--json", *folder).out)["checkpoint_id"]
    points = json.loads(hvps("sim", "checkpoints", "web 01", "--json", *folder).out)["checkpoints"]
    assert [(point["checkpoint_id"], point["name"]) for point in points] == [(made, "mine")]
    golden = json.loads(hvps("sim", "image", made, "--json", *folder).out)["path"]
    assert Path(golden).read_bytes() == bytes(newer)
    assert hvps("sim", "remove", made, *folder).code == 0


def test_the_world_is_kept_in_its_folder(hvps: Hvps, tmp_path: Path, image: Path) -> None:
    with serving(tmp_path / "world") as served:
        hvps("sim", "import", "a", image, "-f", served.folder)
    with serving(tmp_path / "world") as served:
        listed = json.loads(hvps("sim", "list", "--json", "-f", served.folder).out)["vms"]
    assert [vm["name"] for vm in listed] == ["a"]


def test_faults_and_knobs_are_set_by_name(hvps: Hvps, served: Served) -> None:
    folder = ("-f", served.folder)
    done = hvps("sim", "fault", "checkpoint_fails", "2", "--json", *folder)
    assert json.loads(done.out)["armed"] == {"checkpoint_fails": 2}
    assert hvps("sim", "fault", "checkpoint_fails", "0", *folder).out == "no fault is armed\n"
    done = hvps("sim", "knob", "job_seconds", "0.25", "--json", *folder)
    assert json.loads(done.out)["knobs"] == {"job_seconds": 0.25}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("state", "nobody", "start"), 5),
        (("fault", "no_such_fault"), 5),
        (("knob", "no_such_knob"), 64),
        (("knob", "job_vanishes", "perhaps"), 5),
        (("write", "x", "0"), 64),
        (("write", "x", "0", "--random", "1GiB"), 64),
        (("disk", "x", "big"), 64),
    ],
)
def test_what_makes_no_sense_is_one_line(
    hvps: Hvps, served: Served, arguments: tuple[str, ...], code: int
) -> None:
    done = hvps("sim", *arguments, "-f", served.folder)
    assert done.code == code
    assert done.err.count("\n") == 1


def test_a_host_that_is_not_served_is_an_error(hvps: Hvps, tmp_path: Path) -> None:
    tmp_path.joinpath("empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nothing"):
        done = hvps("sim", "list", "-f", folder)
        assert done.code == 5
        assert done.err.count("\n") == 1
    assert hvps("sim", "list").code == 64
