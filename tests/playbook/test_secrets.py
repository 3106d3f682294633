from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from pathlib import Path

import pytest

from hvpsbridge.errors import SecretUnavailable
from hvpsbridge.playbook import program, secrets
from hvpsbridge.playbook.places import SecretRef
from hvpsbridge.playbook.secrets import MAX_SECRET_BYTES, resolve
from tests.waiting import wait_until

CANARY = "canary-7f3a"


def _file(folder: Path, data: bytes, mode: int = 0o600) -> SecretRef:
    path = folder / "secret"
    path.write_bytes(data)
    path.chmod(mode)
    return SecretRef(file=path)


def _printing(code: str) -> SecretRef:
    return SecretRef(command=(sys.executable, "-c", code))


def test_a_file_gives_its_first_line(tmp_path: Path) -> None:
    assert resolve(_file(tmp_path, b"canary-7f3a\r\nmore\n"), "x").reveal() == CANARY


def test_text_that_is_not_utf_8_is_refused_without_a_letter_of_it(tmp_path: Path) -> None:
    halves = os.fsdecode(b"canary-\xfc")
    for reference, environment in (
        (_file(tmp_path, b"canary-\xfc\n"), None),
        (SecretRef(env="PASSWORD"), {"PASSWORD": halves}),
        (SecretRef(prompt="Password"), None),
    ):
        with pytest.raises(SecretUnavailable, match="is not UTF-8 text") as caught:
            resolve(reference, "hosts.a.password", environment=environment, ask=lambda _: halves)
        text = "".join(traceback.format_exception(caught.value))
        assert "canary-" not in text
        assert "fc" not in text.rpartition("SecretUnavailable")[2].lower()


def test_blanks_belong_to_a_secret(tmp_path: Path) -> None:
    assert resolve(_file(tmp_path, b"  a b \n"), "x").reveal() == "  a b "


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(SecretUnavailable, match=f"mode {mode:04o}.*chmod 600"):
        resolve(_file(tmp_path, CANARY.encode(), mode), "hosts.a.password")


def test_a_folder_or_pipe_is_no_secret_file(tmp_path: Path) -> None:
    with pytest.raises(SecretUnavailable):
        resolve(SecretRef(file=tmp_path), "x")
    with pytest.raises(SecretUnavailable, match="not a regular file"):
        resolve(SecretRef(file=Path("/dev/null")), "x")


def test_a_command_gives_the_first_line_it_prints() -> None:
    assert resolve(_printing(f"print('{CANARY}'); print('rest')"), "x").reveal() == CANARY


def test_a_command_is_run_without_a_shell() -> None:
    reference = SecretRef(command=("printf", "%s", "$(id) `id` ; | &"))
    assert resolve(reference, "x").reveal() == "$(id) `id` ; | &"


def test_a_variable_and_a_descriptor_give_their_text() -> None:
    assert resolve(SecretRef(env="PW"), "x", environment={"PW": CANARY}).reveal() == CANARY
    reader, writer = os.pipe()
    os.write(writer, CANARY.encode() + b"\n")
    os.close(writer)
    assert resolve(SecretRef(fd=reader), "x").reveal() == CANARY


def test_a_prompt_asks_and_needs_a_terminal() -> None:
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return CANARY

    assert resolve(SecretRef(prompt="Password for hv02"), "x", ask=ask).reveal() == CANARY
    assert asked == ["Password for hv02: "]
    with pytest.raises(SecretUnavailable, match="no terminal"):
        resolve(SecretRef(prompt="q"), "x")


@pytest.mark.parametrize(
    "reference",
    [
        SecretRef(file=Path("/nonexistent/secret")),
        SecretRef(command=("/nonexistent/program",)),
        SecretRef(env="NOT_SET"),
        SecretRef(fd=987),
        _printing("raise SystemExit(3)"),
        _printing("print()"),
        _printing(f"import sys; sys.stdout.buffer.write(b'{CANARY}\\xff')"),
        _printing(f"print('{CANARY}' * {MAX_SECRET_BYTES // 8})"),
        _printing(f"print('{CANARY}'); raise SystemExit(1)"),
    ],
    ids=str,
)
def test_what_cannot_be_had_is_said_without_the_value(
    reference: SecretRef, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SecretUnavailable) as caught:
        resolve(reference, "hosts.hv02.password", environment={})
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert str(caught.value).startswith("hosts.hv02.password: ")
    assert CANARY not in str(caught.value)
    if reference.command is None or CANARY not in str(reference.command):
        assert CANARY not in told


def _gone(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_command_that_does_not_end_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "NOTICE_SECONDS", 0.0)
    monkeypatch.setattr(program, "_has_terminal", lambda: False)
    monkeypatch.setattr(secrets, "WAIT_SECONDS", 1.0)
    said: list[str] = []
    script = f"sleep 1000 & echo $! > {tmp_path / 'id'}; echo {CANARY}; wait"
    with pytest.raises(SecretUnavailable, match="command sh did not end within"):
        resolve(SecretRef(command=("sh", "-c", script)), "hosts.a", say=said.append)
    assert said == ["waiting for command sh (hosts.a)"]
    wait_until(lambda: _gone(int((tmp_path / "id").read_text())))


def test_a_command_that_leaves_something_running_is_not_waited_for(tmp_path: Path) -> None:
    script = f"sleep 1000 & echo $! > {tmp_path / 'id'}; echo {CANARY}"
    assert resolve(SecretRef(command=("sh", "-c", script)), "x").reveal() == CANARY
    os.kill(int((tmp_path / "id").read_text()), signal.SIGKILL)


def test_output_without_end_is_bounded() -> None:
    with pytest.raises(SecretUnavailable, match=f"command yes printed more than {MAX_SECRET_BYTES} bytes"):
        resolve(SecretRef(command=("yes",)), "x")


def test_a_pipe_is_not_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "WAIT_SECONDS", 0.1)
    reader, writer = os.pipe()
    with pytest.raises(SecretUnavailable, match=f"file descriptor {reader} was not closed within"):
        resolve(SecretRef(fd=reader), "x")
    os.close(writer)
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(SecretUnavailable, match="not a regular file"):
        resolve(SecretRef(file=tmp_path / "fifo"), "x")
