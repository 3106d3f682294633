"""Planted secrets appear in no log, report, ledger, repository object or process list."""

from __future__ import annotations

import base64
import json
import threading
import time
from pathlib import Path

import pytest

from .conftest import Hvps, in_process, serving
from .world import World

CANARY = "k4n4ri-7Q9-zwitsch"
_FORMS = (CANARY.encode(), base64.b64encode(CANARY.encode()), base64.b64encode(f"backup:{CANARY}".encode()))


def _assert_unseen(data: bytes | str, where: str) -> None:
    held = data.encode() if isinstance(data, str) else data
    assert not any(form in held for form in _FORMS), f"the secret is in {where}"


class _ProcessList:
    """Reads the arguments of every process again and again, as any user of the machine can."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> _ProcessList:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.is_set():
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(process.read_bytes())
                except OSError:
                    continue  # it has ended
            time.sleep(0.02)


@pytest.mark.parametrize("reference", ["file", "command", "env"])
def test_a_password_is_in_no_log_report_repository_or_process_list(
    reference: str, hvps: Hvps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{CANARY}\n")
    secret.chmod(0o600)
    monkeypatch.setenv("HVPS_CANARY", CANARY)
    with serving(tmp_path / "world", "--password-env", "HVPS_CANARY", start=in_process) as served:
        world = World(hvps, served, tmp_path)
        world.build("web01")
        playbook = world.playbook(tasks="[backup, verify]")
        how = {"file": f"{{file: {secret}}}", "command": f"{{command: [cat, {secret}]}}"}
        text = playbook.read_text().replace(
            f'{{file: "{served.folder / "password"}"}}', how.get(reference, "{env: HVPS_CANARY}")
        )
        assert CANARY not in text
        playbook.write_text(text)
        log = tmp_path / "hvps.log"
        with _ProcessList() as processes:
            process = in_process("-vv", "--log-file", log, "run", playbook, "--json")
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert json.loads(out)["exit_code"] == 0
        assert log.stat().st_size > 0
        assert any(b"run" in arguments and b"--json" in arguments for arguments in processes.seen)
        for arguments in processes.seen:
            _assert_unseen(arguments, "the process list")
        _assert_unseen(out, "the report")
        _assert_unseen(err, "standard error")
        _assert_unseen(log.read_bytes(), "the log")
        for name, data in world.snapshot().items():
            _assert_unseen(data, name)
        for path in (tmp_path / "home").rglob("*"):
            if path.is_file():
                _assert_unseen(path.read_bytes(), str(path))


def test_a_wrong_password_is_not_in_the_error(
    hvps: Hvps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HVPS_CANARY", CANARY)
    with serving(tmp_path / "world") as served:
        log = tmp_path / "hvps.log"
        done = hvps(
            *("-vv", "--log-file", log, "inventory", served.url),
            *("--auth", "basic", "--user", "backup", "--password-env", "HVPS_CANARY"),
        )
    assert done.code == 14
    for data in (done.out, done.err, log.read_text()):
        _assert_unseen(data, "what was said")


def test_an_encrypted_repository_reveals_no_key_and_no_name_of_vm_or_host(
    hvps: Hvps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HVPS_KEY", CANARY)
    with serving(tmp_path / "world") as served:
        world = World(hvps, served, tmp_path, key=("--key-env", "HVPS_KEY"), vm="zanzibar-db")
        world.build("zanzibar-db")
        playbook = world.playbook()
        text = playbook.read_text()
        playbook.write_text(text.replace('/repo"}', '/repo", key: {env: HVPS_KEY}}').replace("hv01", "quito"))
        log = tmp_path / "hvps.log"
        done = hvps("-vv", "--log-file", log, "run", playbook, "--json")
        assert done.code == 0, done.err
        assert world.assert_every_point_restores_equal() == 1
    for data in (done.out, done.err, log.read_text()):
        _assert_unseen(data, "what was said")
    objects = world.snapshot()
    objects.pop("restore.py")  # the same in every repository
    for name, data in objects.items():
        _assert_unseen(data, name)
        for word in (b"zanzibar", b"quito", b"vmcx", b"scsi"):
            assert word not in data, (word, name)
            assert word.decode() not in name
