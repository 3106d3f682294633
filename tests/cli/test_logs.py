from __future__ import annotations

import html
import io
import json
import logging
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import pytest

from hvpsbridge.cli import logs
from hvpsbridge.errors import ConfigurationError
from hvpsbridge.secret import Secret

RUN = UUID("12345678-0000-4000-8000-000000000000")
CANARY = "c4n4ry-'quoted'-\\and\\-b4ck"


@pytest.fixture(autouse=True)
def _restore_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in list(root.handlers):
        if handler not in handlers:
            root.removeHandler(handler)
    root.setLevel(level)


def _logged(verbosity: int = 2, log_file: Path | None = None) -> io.StringIO:
    stream = io.StringIO()
    logs.set_up(RUN, verbosity=verbosity, log_file=log_file, stream=stream)
    return stream


def test_every_line_has_time_level_and_the_run_s_id() -> None:
    stream = _logged()
    log = logging.getLogger("hvpsbridge.test")
    log.info("one\ntwo")
    try:
        raise ValueError("three")
    except ValueError:
        log.exception("failed")
    lines = stream.getvalue().splitlines()
    assert len(lines) >= 5
    assert all("12345678" in line for line in lines)
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 INFO ", lines[0])


@pytest.mark.parametrize(("verbosity", "seen"), [(0, "w"), (1, "iw"), (2, "diw"), (5, "diw")])
def test_more_v_show_more(verbosity: int, seen: str) -> None:
    stream = _logged(verbosity)
    log = logging.getLogger("hvpsbridge.test")
    log.debug("d")
    log.info("i")
    log.warning("w")
    assert "".join(line[-1] for line in stream.getvalue().splitlines()) == seen


def test_libraries_are_heard_from_warnings_on_only() -> None:
    stream = _logged()
    logging.getLogger("urllib3.connectionpool").debug("whole request")
    logging.getLogger("hvpsbridgeother").info("not ours")
    logging.getLogger("urllib3.connectionpool").warning("retrying")
    assert stream.getvalue().count("\n") == 1


def test_known_secrets_leave_no_handler_in_message_arguments_or_traceback(tmp_path: Path) -> None:
    logs.redact.add(Secret(CANARY))
    file = tmp_path / "hvps.log"
    stream = _logged(log_file=file)
    log = logging.getLogger("hvpsbridge.test")
    log.warning("message %s", CANARY)
    log.warning("in a container %s", {"password": CANARY})
    try:
        raise ValueError(CANARY)
    except ValueError:
        log.exception("failed")
    for text in (stream.getvalue(), file.read_text()):
        assert "c4n4ry" not in text
        assert text.count("********") >= 3


def test_a_secret_inside_another_does_not_uncover_the_rest() -> None:
    redact = logs.Redactor()
    redact.add(Secret("abc+12"))
    redact.add(Secret("xabc+12x"))
    assert redact("-xabc+12x-abc+12-") == "-********-********-"


@pytest.mark.parametrize(
    "secret", ["a", "done", "good", "web01", "20260301", "backup", "CHECKPOINT", "a point"]
)
def test_a_short_secret_or_a_plain_word_is_not_replaced(secret: str) -> None:
    redact = logs.Redactor()
    redact.add(Secret(secret))
    line = f"backup of web01 done: a point is good, CHECKPOINT 20260301 {secret}"
    assert redact(line) == line


@pytest.mark.parametrize(
    "secret", ["hunter2", "kG7+q/", "correct horse battery", "onelongpassword", "p\u00e4ss&w"]
)
def test_a_secret_is_replaced_in_the_forms_that_messages_have(secret: str) -> None:
    redact = logs.Redactor()
    redact.add(Secret(secret))
    for text in (secret, repr(secret), json.dumps(secret), quote(secret), html.escape(secret, quote=False)):
        assert secret[:4] not in redact(f"x{text}y")
        assert "********" in redact(f"x{text}y")


def test_a_message_is_one_line_without_characters_that_deceive() -> None:
    stream = _logged()
    log = logging.getLogger("hvpsbridge.test")
    log.info("a\r\n2026-01-01T00:00:00.000+00:00 ERROR \x1b[2J\u202eevil\u2028b \u6771\u3000\u00e4")
    try:
        raise ValueError("one\u2028two\x85three\rfour")
    except ValueError:
        log.exception("failed")
    first, *others = stream.getvalue().split("\n")
    assert first.endswith("a 2026-01-01T00:00:00.000+00:00 ERROR \ufffd[2J\ufffdevil b \u6771\u3000\u00e4")
    assert others[0].endswith(" failed")
    assert others[-2] == "12345678 | ValueError: one\ufffdtwo\ufffdthree\ufffdfour"
    assert all(line.startswith("12345678 | ") for line in others[1:-1])


def test_the_file_gets_information_without_v_is_private_and_appended_to(tmp_path: Path) -> None:
    file = tmp_path / "hvps.log"
    stream = _logged(0, file)
    logging.getLogger("hvpsbridge.test").info("first")
    _logged(0, file)
    logging.getLogger("hvpsbridge.test").info("second")
    assert stream.getvalue() == ""
    assert [line[-6:].strip() for line in file.read_text().splitlines()] == ["first", "second"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_log_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        _logged(log_file=tmp_path / "no" / "hvps.log")
