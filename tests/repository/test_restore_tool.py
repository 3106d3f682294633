"""restore.py reads repositories without hvps; golden repositories must always be readable."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import venv
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from uuid import UUID, uuid4

import pytest
import pyvhdi

from hvpsbridge.formats.envelope import FORMATS
from hvpsbridge.repository import create_repository, open_repository
from hvpsbridge.repository.check.verify import Level
from hvpsbridge.repository.collect.report import CollectOptions
from hvpsbridge.resources import resource_folder
from hvpsbridge.secret import Secret
from tests.repository.conftest import CHEAP, CHUNK, KEY, store_point
from tests.repository.test_corruption import build, case

TOOL = resource_folder("restore_tool") / "restore.py"
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SEED = int(os.environ.get("HVPS_SEED", "20261122"))
GOLDEN_NAMES = sorted(path.name.removesuffix(".json") for path in GOLDEN.glob("*.json"))


def bare_python(folder: Path, *packages: str) -> Path:
    """A Python with nothing but the standard library and these packages."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for package in packages:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        origin = Path(spec.origin)
        source = origin.parent if origin.stem == "__init__" else origin
        (site / source.name).symlink_to(source)
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def empty_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_python(tmp_path_factory.mktemp("bare") / "empty")


@pytest.fixture(scope="session")
def full_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_python(
        tmp_path_factory.mktemp("bare") / "full", "zstandard", "cryptography", "cffi", "_cffi_backend"
    )


def run(python: Path, *arguments: object, tool: Path = TOOL) -> subprocess.CompletedProcess[str]:
    # -I: without the modules and settings of this environment.
    command = [str(python), "-I", str(tool), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={"LC_ALL": "C.UTF-8"})


def key_options(keys: dict[str, dict[str, str]], folder: Path) -> list[object]:
    """Options that give restore.py the exported key of a golden repository, if it has one."""
    if not keys:
        return []
    (folder / "key").write_text(str(keys["exported"]) + "\n")
    return ["--key-file", folder / "key"]


@pytest.fixture
def golden(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[Path, dict[str, dict[str, dict[str, str]]]]:
    with tarfile.open(GOLDEN / f"{request.param}.tar.gz") as archive:
        # The argument "filter" came with Python 3.11.4; Debian 12 has 3.11.2.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        archive.extractall(tmp_path)
    return tmp_path / request.param, json.loads((GOLDEN / f"{request.param}.json").read_text())


def test_there_is_a_plain_and_a_sealed_golden_repository_of_each_format() -> None:
    kinds = ("plain", "sealed")
    assert {f"format-{format}-{kind}" for format in FORMATS for kind in kinds} <= set(GOLDEN_NAMES)


@pytest.mark.parametrize("golden", [name for name in GOLDEN_NAMES if "format-1" in name], indirect=True)
def test_a_golden_repository_is_upgraded_and_then_read_as_before(
    golden: tuple[Path, dict[str, dict[str, dict[str, str]]]], full_python: Path, tmp_path: Path
) -> None:
    folder, expected = golden
    keys = expected.pop("key")
    key = Secret(str(keys["passphrase"])) if keys else None
    cache = folder.parent / "cache"
    with open_repository(str(folder), key=key, cache_folder=cache) as repository:
        repository.upgrade(uuid4(), wait=False)
    with open_repository(str(folder), key=key, cache_folder=cache) as repository:
        assert repository.settings.format == FORMATS[-1]
        repository.collect(uuid4(), CollectOptions(grace=timedelta(0), max_unused=0, merge_from=2))
        assert repository.verify(Level.HASHED).good
        for point in repository.catalog.points():
            for disk in point.disks:
                content = repository.image(point, disk).readall() or b""
                digest = expected[str(point.point_id)]["disks"][disk.slot]
                assert hashlib.sha256(content).hexdigest() == digest
    listed = run(full_python, *key_options(keys, tmp_path), folder, "list", tool=folder / "restore.py")
    assert listed.returncode == 0, listed.stderr
    assert all(point[:8] in listed.stdout for point in expected)


@pytest.mark.parametrize("golden", GOLDEN_NAMES, indirect=True)
class TestGolden:
    def test_is_read_by_this_hvps(self, golden: tuple[Path, dict[str, dict[str, dict[str, str]]]]) -> None:
        folder, expected = golden
        keys = expected.pop("key")
        for key in keys.values() or [None]:
            with open_repository(
                str(folder),
                key=None if key is None else Secret(str(key)),
                cache_folder=folder.parent / "cache",
            ) as repository:
                assert repository.verify("hashed").good
                assert {str(point.point_id) for point in repository.catalog.points()} == set(expected)
                for point in repository.catalog.points():
                    for disk in point.disks:
                        content = repository.image(point, disk).readall() or b""
                        digest = hashlib.sha256(content).hexdigest()
                        assert digest == expected[str(point.point_id)]["disks"][disk.slot]
                    for file in point.manifest.files:
                        digest = hashlib.sha256(b"".join(repository.read_file(file))).hexdigest()
                        assert digest == expected[str(point.point_id)]["files"][file.name]
                    assert repository.catalog.ids(point) is not None
                points = repository.catalog.points()
                (vm_id,) = {point.vm_id for point in points}
                pruned = [tomb for tomb in repository.catalog.tombstones() if tomb.vm_id == vm_id]
                assert len(repository.ledger(vm_id).entries()) == len(points) + len(pruned)
                levels = [later.proof.level for later in repository.catalog.proofs.of(points[-1])]
                assert levels == ["restored"]

    @pytest.mark.parametrize("own", [False, True], ids=["shipped", "in the repository"])
    def test_is_read_by_restore_py(
        self,
        golden: tuple[Path, dict[str, dict[str, dict[str, str]]]],
        full_python: Path,
        tmp_path: Path,
        own: bool,
    ) -> None:
        folder, expected = golden
        tool = folder / "restore.py" if own else TOOL
        options = key_options(expected.pop("key"), tmp_path)
        listed = run(full_python, *options, folder, "list", tool=tool)
        assert listed.returncode == 0, listed.stderr
        for point, content in expected.items():
            assert point[:8] in listed.stdout
            for slot, digest in content["disks"].items():
                target = tmp_path / f"{point} {slot}"
                done = run(
                    full_python, *options, folder, "restore", point, "--disk", slot, "--to", target, tool=tool
                )
                assert done.returncode == 0, done.stderr
                assert hashlib.sha256(target.read_bytes()).hexdigest() == digest
            done = run(full_python, *options, folder, "files", point, "--to", tmp_path / point, tool=tool)
            assert done.returncode == 0, done.stderr
            for name, digest in content["files"].items():
                assert hashlib.sha256((tmp_path / point / name).read_bytes()).hexdigest() == digest
            assert (tmp_path / point / "definition.json").read_text() == '{"Generation":2}'

    @pytest.mark.parametrize("lost", ["index", "one index object", "a footer that nobody needs"])
    def test_is_read_by_restore_py_without_its_index(
        self,
        golden: tuple[Path, dict[str, dict[str, dict[str, str]]]],
        full_python: Path,
        tmp_path: Path,
        lost: str,
    ) -> None:
        folder, expected = golden
        options = key_options(expected.pop("key"), tmp_path)
        objects = sorted((folder / "index").iterdir())
        for path in objects[: None if lost == "index" else 1]:
            path.unlink()
        if lost == "a footer that nobody needs":
            (folder / "data" / "00").mkdir(exist_ok=True)
            (folder / "data" / "00" / ("0" * 32)).write_bytes(b"HVPK of a writer that died")
        for point, content in expected.items():
            for slot, digest in content["disks"].items():
                target = tmp_path / f"{point} {slot}"
                done = run(full_python, *options, folder, "restore", point, "--disk", slot, "--to", target)
                assert hashlib.sha256(target.read_bytes()).hexdigest() == digest
                assert done.returncode in ((0,) if lost != "a footer that nobody needs" else (0, 7))

    def test_is_whole_again_when_its_index_is_rebuilt(
        self, golden: tuple[Path, dict[str, dict[str, dict[str, str]]]], tmp_path: Path
    ) -> None:
        folder, expected = golden
        key = expected["key"].get("passphrase")
        shutil.rmtree(folder / "index")
        with open_repository(
            str(folder), key=None if key is None else Secret(str(key)), cache_folder=tmp_path / "cache"
        ) as repository:
            assert not repository.verify("written").good
            repository.rebuild_index(UUID(int=1))
            assert repository.verify("hashed").good
            for point in repository.catalog.points():
                for disk in point.disks:
                    content = repository.image(point, disk).readall() or b""
                    digest = expected[str(point.point_id)]["disks"][disk.slot]
                    assert hashlib.sha256(content).hexdigest() == digest

    def test_is_opened_by_restore_py_with_a_passphrase(
        self, golden: tuple[Path, dict[str, dict[str, dict[str, str]]]], full_python: Path, tmp_path: Path
    ) -> None:
        folder, expected = golden
        (tmp_path / "key").write_text(str(expected["key"].get("passphrase", "x")))
        done = run(full_python, "--key-file", tmp_path / "key", folder, "list")
        assert done.returncode == (0 if expected["key"] else 5)


class TestRestoreTool:
    @pytest.fixture
    def incompressible(self, tmp_path: Path) -> tuple[Path, bytes, str]:
        content = random.Random(1).randbytes(3 * CHUNK + 100)
        folder = tmp_path / "repo"
        with create_repository(str(folder), chunk_bytes=CHUNK, cache_folder=tmp_path / "c") as repository:
            return folder, content, store_point(repository, content).short_id

    def test_names_what_it_lacks(self, empty_python: Path, tmp_path: Path) -> None:
        folder = tmp_path / "repo"
        with create_repository(str(folder), chunk_bytes=CHUNK, cache_folder=tmp_path / "c") as repository:
            point = store_point(repository, b"compressible " * CHUNK, definition="x" * 5000)
        done = run(empty_python, folder, "restore", point.short_id, "--to", tmp_path / "out")
        assert done.returncode == 5
        assert "zstandard" in done.stderr
        assert not (tmp_path / "out").exists()

    def test_takes_a_passphrase_however_its_accents_are_typed(
        self, full_python: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "repo"
        create_repository(
            str(folder), key=Secret("Gr\u00fc\u00dfe"), cost=CHEAP, cache_folder=tmp_path / "c"
        ).close()
        for typed, code in (("Gr\u00fc\u00dfe", 0), ("Gru\u0308\u00dfe", 0), ("Gru\u00dfe", 5)):
            (tmp_path / "key").write_text(typed, encoding="utf-8")
            assert run(full_python, "--key-file", tmp_path / "key", folder, "list").returncode == code

    def test_names_what_it_lacks_for_a_sealed_repository(self, empty_python: Path, tmp_path: Path) -> None:
        folder = tmp_path / "repo"
        with create_repository(
            str(folder), chunk_bytes=CHUNK, key=KEY, cost=CHEAP, cache_folder=tmp_path / "c"
        ) as repository:
            store_point(repository, b"x" * CHUNK)
            (tmp_path / "key").write_text(repository.keys.export().text.reveal())
        done = run(empty_python, "--key-file", tmp_path / "key", folder, "list")
        assert (done.returncode, "cryptography" in done.stderr) == (5, True)

    def test_leaves_holes_where_there_are_zeros(
        self, full_python: Path, incompressible: tuple[Path, bytes, str], tmp_path: Path
    ) -> None:
        with open_repository(str(incompressible[0]), cache_folder=tmp_path / "c") as repository:
            point = store_point(repository, b"a" * CHUNK + bytes(200 * CHUNK) + b"b" * CHUNK)
        done = run(full_python, incompressible[0], "restore", point.short_id, "--to", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out").stat().st_size == 202 * CHUNK
        assert (tmp_path / "out").stat().st_blocks * 512 <= 4 * CHUNK

    def test_writes_a_vhdx_that_others_read(
        self, full_python: Path, incompressible: tuple[Path, bytes, str], tmp_path: Path
    ) -> None:
        content = b"a" * CHUNK + bytes(700 * CHUNK) + b"b" * CHUNK + bytes(300 * CHUNK)
        with open_repository(str(incompressible[0]), cache_folder=tmp_path / "c") as repository:
            point = store_point(repository, content)
        made, raw = tmp_path / "made.vhdx", tmp_path / "raw"
        wanted = ("restore", point.short_id, "--format", "vhdx", "--to", made)
        done = run(full_python, incompressible[0], *wanted)
        assert done.returncode == 0, done.stderr
        raw.write_bytes(content)
        subprocess.run(["qemu-img", "check", "-q", "-f", "vhdx", made], check=True, timeout=60)
        compared = ["qemu-img", "compare", "-f", "vhdx", "-F", "raw", made, raw]
        subprocess.run(compared, check=True, timeout=60, capture_output=True)

    def test_a_vhdx_of_any_size_is_read_by_libvhdi(self, tmp_path: Path) -> None:
        tool = load_tool()
        for size, sector in ((4096, 4096), (5 << 40, 512), (64 << 40, 4096), (33 << 20, 512)):
            image = tool.Vhdx(size, sector)
            with (tmp_path / "disk.vhdx").open("wb") as out:
                for start in (0, size - size % CHUNK - (0 if size % CHUNK else CHUNK)):
                    if start >= 0:
                        out.seek(image.place(start))
                        out.write(b"x" * min(CHUNK, size - start))
                image.finish(out)
            opened = pyvhdi.file()
            opened.open(str(tmp_path / "disk.vhdx"))
            assert (opened.get_media_size(), opened.get_bytes_per_sector()) == (size, sector)
            assert opened.read_buffer_at_offset(512, size - 512) == b"x" * 512
            opened.close()
        with pytest.raises(tool.Failure, match="restore it as raw"):
            tool.Vhdx(1000, 512)

    def test_says_7_for_damage_and_leaves_no_half_file(
        self, full_python: Path, incompressible: tuple[Path, bytes, str], tmp_path: Path
    ) -> None:
        folder, _, point = incompressible
        (pack,) = folder.glob("data/*/*")
        data = bytearray(pack.read_bytes())
        data[CHUNK + 1000] ^= 1
        pack.write_bytes(data)
        done = run(full_python, folder, "restore", point, "--to", tmp_path / "out")
        assert (done.returncode, "digest does not match" in done.stderr) == (7, True)
        assert not (tmp_path / "out").exists()

    def test_writes_over_nothing_and_changes_nothing(
        self, full_python: Path, incompressible: tuple[Path, bytes, str], tmp_path: Path
    ) -> None:
        folder, content, point = incompressible
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        (tmp_path / "out").write_bytes(b"mine")
        done = run(full_python, folder, "restore", point, "--to", tmp_path / "out")
        assert done.returncode == 5
        assert (tmp_path / "out").read_bytes() == b"mine"
        done = run(full_python, folder, "restore", point, "--to", tmp_path / "out2")
        assert (done.returncode, (tmp_path / "out2").read_bytes()) == (0, content)
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before

    def test_refuses_a_newer_format_with_both_numbers(
        self, full_python: Path, incompressible: tuple[Path, bytes, str]
    ) -> None:
        config = incompressible[0] / "config"
        config.write_bytes(config.read_bytes().replace(b'"format":2', b'"format":3'))
        done = run(full_python, incompressible[0], "list")
        assert done.returncode == 5
        assert "format 3" in done.stderr
        assert "supports 1" in done.stderr

    def test_takes_a_good_copy_that_no_index_names(
        self, incompressible: tuple[Path, bytes, str], tmp_path: Path, full_python: Path
    ) -> None:
        folder, content, point = incompressible
        (pack,) = (path for path in (folder / "data").rglob("*") if path.is_file())
        good = pack.read_bytes()
        with open_repository(str(folder), cache_folder=tmp_path / "c") as repository:
            known = {path.name for path in (folder / "index").iterdir()}
            pack.unlink()  # so that the same chunks are stored once more
            repository.publish_bad(
                [
                    (entry.id, bytes.fromhex(pack.name))
                    for entry in repository._cache.frames_of(bytes.fromhex(pack.name))
                ]
            )
            store_point(repository, content, vm_id=UUID(int=9))
        for path in (folder / "index").iterdir():
            if path.name not in known:
                path.unlink()
        pack.write_bytes(good[:60] + bytes(len(good) - 60))
        done = run(full_python, folder, "restore", point, "--to", tmp_path / "disk")
        assert (tmp_path / "disk").read_bytes() == content, done.stderr

    @pytest.mark.parametrize("sealed", [False, True])
    def test_reads_the_rest_beside_whatever_somebody_added(
        self, full_python: Path, tmp_path: Path, *, sealed: bool
    ) -> None:
        folder = tmp_path / "repo"
        key = KEY if sealed else None
        with create_repository(str(folder), key=key, cost=CHEAP, cache_folder=tmp_path / "c") as made:
            point = store_point(made, random.Random(SEED).randbytes(3 * CHUNK))
        (tmp_path / "key").write_text(KEY.reveal())
        options = ("--key-file", tmp_path / "key") if sealed else ()
        kinds = ("index", "points", "keys", "data/00", "nodes/00")
        for at, data in enumerate((b"", b"x", b"[" * 100_000, b'{"slot_id":' + b"1" * 5000 + b"}")):
            for kind in kinds:
                (folder / kind).mkdir(parents=True, exist_ok=True)
                (folder / kind / f"{at:032x}").write_bytes(data)
        for kind in kinds:
            os.mkfifo(folder / kind / ("a" * 32))
            (folder / kind / ("b" * 32)).symlink_to("/dev/zero")
            (folder / kind / ("c" * 32)).mkdir()
            (folder / kind / ("d" * 32)).write_bytes(b"")
            os.truncate(folder / kind / ("d" * 32), 1 << 40)
        done = run(full_python, *options, folder, "list")
        assert (done.returncode, point.point_id.hex[:8] in done.stdout) == (7, True), done.stderr
        assert "Traceback" not in done.stderr
        done = run(full_python, *options, folder, "restore", point.point_id, "--to", tmp_path / "out")
        assert (tmp_path / "out").stat().st_size == 3 * CHUNK
        for number in range(300):
            (folder / "keys" / f"{number:032x}").write_bytes(b"x")
        assert "Traceback" not in run(full_python, *options, folder, "list").stderr

    @pytest.mark.parametrize(
        "names",
        [
            ("a/b", "a_b", "A_B"),
            ("definition.json", "../definition.json"),
            ("..", "", "///"),
            ("仮" * 300, "仮" * 301),
            ("CON", "nul.txt", "-rf", "web.", "half\ud800", "Bu\u0308ro", "B\u00fcro"),
        ],
    )
    def test_file_names_are_apart_and_fit(self, names: tuple[str, ...], tmp_path: Path) -> None:
        taken = {"definition.json"}
        made = [load_tool().file_name(name, taken) for name in names]
        assert len({name.casefold() for name in made}) == len(names)
        for name in made:
            (tmp_path / name).touch(exist_ok=False)
            assert "/" not in name
            assert not name.startswith((".", "-"))
            assert name.split(".")[0].casefold() not in ("con", "nul")
            assert name != "definition.json"
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(made)

    def test_a_file_that_exists_is_neither_followed_nor_replaced(self, tmp_path: Path) -> None:
        tool = load_tool()
        (tmp_path / "link").symlink_to("nowhere")
        with pytest.raises(tool.Failure, match="already exists"):
            tool.new_file(tmp_path / "link")
        with tool.new_file(tmp_path / "new"):
            assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
        assert not (tmp_path / "nowhere").exists()

    def test_sectors_of_another_size_are_told(self) -> None:
        tool = load_tool()
        assert tool.sectors({"sector_bytes": 4096}) == ", sectors of 4096 bytes (losetup --sector-size)"
        assert tool.sectors({"sector_bytes": 512}) == tool.sectors({}) == ""

    def test_is_in_every_new_repository(self, incompressible: tuple[Path, bytes, str]) -> None:
        assert (incompressible[0] / "restore.py").read_bytes() == TOOL.read_bytes()

    def test_imports_nothing_of_ours(self) -> None:
        assert "hvpsbridge" not in TOOL.read_text()
        assert os.path.getsize(TOOL) < 64 * 1024
        assert sys.version_info >= (3, 11)


def load_tool() -> ModuleType:
    """restore.py as a module, to run it hundreds of times in this process."""
    spec = importlib.util.spec_from_file_location("restore_tool_under_test", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
def test_restores_nothing_corrupt_as_good(sealed: bool, tmp_path: Path) -> None:
    built = build(sealed)
    tool = load_tool()
    for number in range(40):
        store, how, name = case(built, SEED, number)
        folder = tmp_path / str(number)
        for each, data in store.objects.items():
            (folder / each).parent.mkdir(parents=True, exist_ok=True)
            (folder / each).write_bytes(data)
        try:
            repository = tool.Repository(folder, KEY.reveal() if sealed else None)
            points = repository.points()
        except tool.Failure:
            continue
        for point in points:
            for disk in point["disks"]:
                try:
                    chunks = dict(repository.chunks(disk["tree"]))
                except tool.Damage:
                    continue
                expected = built.contents[UUID(point["point_id"])][disk["slot"]]
                assert (chunks, disk["size_bytes"]) == expected, f"seed {SEED} case {number}: {how} of {name}"
        shutil.rmtree(folder)
