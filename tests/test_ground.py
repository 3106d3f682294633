"""The ground modules: units, secrets, errors and exit codes."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge import errors
from hvpsbridge.errors import ExitCode, HvpsError, worst
from hvpsbridge.secret import Secret
from hvpsbridge.text import cleaned, folded, json_escaped
from hvpsbridge.units import duration_text, parse_duration, parse_size, size_text, span_text


@pytest.mark.parametrize(
    ("text", "value"),
    [("64KiB", 65536), ("1.5 GiB", 1610612736), ("4096", 4096), ("2m", 2097152), ("1TiB", 1 << 40)],
)
def test_sizes_are_read(text: str, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize(
    "text", ["", "KiB", "-1", "1.5", "3 XiB", "0.3KiB", "9" * 400, "9" * 5000, "8388608TiB"]
)
def test_invalid_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^.{,100}$") as caught:
        parse_size(text)
    assert re.search("size|whole", str(caught.value))


def test_long_times_are_written_in_hours_and_days() -> None:
    times = {20: "20 s", 3600: "1 hour", 26 * 3600: "26 hours", 48 * 3600: "2 days", 41 * 86400: "41 days"}
    assert {seconds: span_text(seconds) for seconds in times} == times


def test_durations_are_read_and_written() -> None:
    assert [parse_duration(t) for t in ("90s", "15m", "2h", "7d", "1.5")] == [90, 900, 7200, 604800, 1.5]
    for text in ("366d", f"{'9' * 400}s", f"{'9' * 5000}w"):
        with pytest.raises(ValueError, match=r"is too long; use at most 365d$"):
            parse_duration(text)
    assert [duration_text(s) for s in (0.44, 12, 185, 7620)] == ["0.4 s", "12 s", "3 min 05 s", "2 h 07 min"]


@given(st.integers(0, 1 << 50))
def test_a_size_is_written_in_few_characters(count: int) -> None:
    assert len(size_text(count)) <= 11


def test_sizes_are_written_for_people() -> None:
    assert [size_text(n) for n in (0, 1023, 1024, 1536, 1 << 40)] == [
        "0 B",
        "1023 B",
        "1 KiB",
        "1.5 KiB",
        "1 TiB",
    ]


CANARY = "canary-5ecret"


def test_a_secret_shows_nowhere() -> None:
    secret = Secret(CANARY)
    holder = {"password": secret}
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret:>40}",
        "{}".format(secret),  # noqa: UP032 (the older form is what is tested)
        repr(holder),
        repr([secret]),
    ]
    assert not any(CANARY in text for text in shown)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.copy(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)
    assert secret.reveal() == CANARY
    assert secret == Secret(CANARY)
    assert secret != Secret("other")


def every_error() -> list[type[HvpsError]]:
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, HvpsError) and value is not HvpsError
    ]


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_is_one_line_with_its_facts(kind: type[HvpsError]) -> None:
    samples = {
        "str": "fact-{}",
        "int": 7,
        "int | None": -1,
        "float": 3.0,
        "bool": False,
        "UUID": UUID(int=7),
        "tuple[str, ...]": ("one", "two"),
    }
    values = {
        field.name: (f"fact-{field.name}" if field.type == "str" else samples[str(field.type)])
        for field in dataclasses.fields(kind)
    }
    error = kind(**values)
    text = str(error)
    assert text
    assert "\n" not in text
    assert error.kind == kind.__name__
    assert error.facts() == values
    assert isinstance(kind.exit_code, ExitCode)
    assert (kind.exit_code is ExitCode.DONE) == (kind is errors.NothingToBackUp)


def test_the_worst_code_is_the_first_of_the_documented_order() -> None:
    order = [7, 1, 13, 12, 10, 11, 2, 14, 4, 6, 8, 3, 75]
    for index, code in enumerate(order):
        assert worst(ExitCode(later) for later in reversed(order[index:])) == code
    assert worst([]) is ExitCode.DONE
    assert set(errors.PRECEDENCE) | {ExitCode.DONE} == set(ExitCode)


@given(st.text(st.characters(codec=None)))
def test_text_from_outside_is_one_line_that_can_be_encoded(text: str) -> None:
    shown = cleaned(text)
    shown.encode("utf-8")
    assert len(shown.splitlines()) <= 1
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", shown)
    assert cleaned(shown) == shown


def test_letters_joiners_and_spaces_of_any_script_stay() -> None:
    for name in ("東京\u3000web", "بک\u200cآپ", "👩\u200d💻", "naïve\u00a0café", "a\\b{c}%d"):
        assert cleaned(name) == name
    assert cleaned("a\u202eb\u2066c\x9b31md\r\n  e\u2028f") == "a\ufffdb\ufffdc\ufffd31md e f"


@given(st.text(st.characters(codec=None)))
def test_a_json_document_is_the_same_with_escapes(text: str) -> None:
    document = json_escaped(json.dumps({"text": text}, ensure_ascii=False, indent=2))
    document.encode("utf-8")
    assert json.loads(document) == {"text": re.sub("[\ud800-\udfff]", "\ufffd", text)}
    assert cleaned(document.replace("\n", "")) == document.replace("\n", "")


def test_names_that_differ_in_case_or_form_are_one() -> None:
    assert folded("/x/Büro") == folded("/x/BU\u0308RO")
    assert folded("/x/a") != folded("/x/b")
