"""Tuning finds the best settings, keeps what the user decided, and survives a corrupt file."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hvpsbridge.receiver.settings import ReadSettings
from hvpsbridge.tasks.policy import Compression, TuningOptions
from hvpsbridge.tasks.transfer.tuning import (
    GOOD_FOR,
    MAX_EMPTY_TRIALS,
    MEASURABLE_BYTES,
    START,
    Learned,
    Search,
    TuningBook,
)
from hvpsbridge.tasks.transfer.tuning_store import FILE_NAME, TuningFile
from hvpsbridge.units import KIB, MIB

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def found(rate: object, options: TuningOptions | None = None) -> tuple[ReadSettings, int]:
    """What a search chooses if a host delivers ``rate(settings)``, and after how many trials."""
    search = Search(options or TuningOptions())
    trials = 0
    while (settings := search.trial()) is not None:
        trials += 1
        search.measured(int(rate(settings)), 1.0)  # type: ignore[operator]
    return search.settings, trials


def test_a_host_that_is_slow_by_itself_is_read_the_cheap_way() -> None:
    settings, trials = found(lambda settings: 30 * MIB)
    assert settings == START
    assert trials <= 6


@pytest.mark.parametrize(("best", "pipelines"), [(1, 1), (2, 2), (4, 4), (3, 4)])
def test_pipelines_are_added_while_each_step_pays(best: int, pipelines: int) -> None:
    settings, _ = found(lambda settings: 20 * MIB * min(settings.pipelines, best))
    assert settings.pipelines == pipelines


def test_a_gain_below_a_tenth_is_not_worth_a_pipeline() -> None:
    settings, _ = found(lambda settings: 20 * MIB * (1 + 0.04 * settings.pipelines))
    assert settings.pipelines == 1


def test_a_host_that_is_only_warming_up_is_not_taken_for_one_that_likes_pipelines() -> None:
    warmth = iter(range(1, 20))
    settings, trials = found(lambda settings: 20 * MIB * min(next(warmth), 3))
    assert settings == START
    assert trials <= 8


def test_deflating_is_left_off_where_it_costs_more_than_it_saves() -> None:
    assert not found(lambda settings: 20 * MIB if settings.deflate else 60 * MIB)[0].deflate
    assert found(lambda settings: 60 * MIB if settings.deflate else 20 * MIB)[0].deflate


def test_what_the_user_decided_is_neither_tried_nor_changed() -> None:
    tried: list[ReadSettings] = []

    def rate(settings: ReadSettings) -> float:
        tried.append(settings)
        return 20.0 * MIB * settings.pipelines * (1 if settings.deflate else 3)

    settings, _ = found(rate, TuningOptions(readers=2, compression=Compression.ALLOWED))
    assert {(one.pipelines, one.deflate) for one in tried} == {(2, True)}
    assert (settings.pipelines, settings.deflate) == (2, True)
    everything = TuningOptions(readers=3, compression=Compression.NONE, block=128 * KIB, window=2 * MIB)
    assert Search(everything).trial() is None
    assert Search(everything).settings == ReadSettings(3, False, 128 * KIB, 2 * MIB)


def test_trials_of_nothing_but_zeros_are_made_again_but_not_for_ever() -> None:
    search = Search(TuningOptions())
    first = search.trial()
    for _ in range(MAX_EMPTY_TRIALS):
        search.measured(0, 1.0)
        assert search.trial() == first
    search.measured(0, 1.0)
    assert search.trial() != first


def test_only_one_read_of_a_host_measures_and_the_next_ones_profit() -> None:
    book = TuningBook(clock=lambda: NOW)
    settings, search = book.begin("HV01", TuningOptions(), MEASURABLE_BYTES)
    assert search is not None
    assert book.begin("hv01", TuningOptions(), MEASURABLE_BYTES) == (START, None)
    assert book.begin("hv02", TuningOptions(), MEASURABLE_BYTES)[1] is not None
    while (settings := search.trial()) is not None:  # type: ignore[assignment]
        search.measured(20 * MIB * settings.pipelines, 1.0)
    book.end("hv01", search, TuningOptions())
    assert book.begin("hv01", TuningOptions(), 1) == (replace(START, pipelines=4), None)
    assert book.begin("hv01", TuningOptions(readers=2), 1) == (replace(START, pipelines=2), None)


def test_a_search_that_was_broken_off_is_forgotten_and_made_again() -> None:
    book = TuningBook(clock=lambda: NOW)
    _, search = book.begin("hv01", TuningOptions(), MEASURABLE_BYTES)
    assert search is not None
    search.measured(20 * MIB, 1.0)
    book.end("hv01", search, TuningOptions())
    assert book.begin("hv01", TuningOptions(), MEASURABLE_BYTES)[1] is not None


def test_little_reads_and_limited_runs_measure_nothing() -> None:
    assert TuningBook().begin("hv01", TuningOptions(), MEASURABLE_BYTES - 1) == (START, None)
    assert TuningBook(measures=False).begin("hv01", TuningOptions(), MEASURABLE_BYTES) == (START, None)


LEARNED = Learned(ReadSettings(4, False, 256 * KIB, 8 * MIB), 61.0 * MIB, NOW)


def test_what_was_learned_outlives_the_run_for_a_while(tmp_path: Path) -> None:
    TuningFile(tmp_path / "cache").save("hv01", LEARNED)
    TuningFile(tmp_path / "cache").save("hv02", replace(LEARNED, settings=START))
    assert TuningFile(tmp_path / "cache").load() == {
        "hv01": LEARNED,
        "hv02": replace(LEARNED, settings=START),
    }
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == [FILE_NAME]

    def book(later: timedelta) -> TuningBook:
        return TuningBook(TuningFile(tmp_path / "cache"), clock=lambda: NOW + later)

    assert book(GOOD_FOR / 2).begin("hv01", TuningOptions(), MEASURABLE_BYTES) == (LEARNED.settings, None)
    assert book(GOOD_FOR).begin("hv01", TuningOptions(), MEASURABLE_BYTES)[1] is not None
    assert book(-GOOD_FOR / 2).begin("hv01", TuningOptions(), MEASURABLE_BYTES)[1] is not None, (
        "from the future"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\0",
        b"[1, 2]",
        b"null",
        b'{"version": 2, "hosts": {}}',
        b'{"version": 1}',
        b'{"version": 1, "hosts": [1]}',
        b'{"version": 1, "hosts": {"hv01": 3}}',
        b"[" * 100_000,
    ],
)
def test_a_spoilt_file_means_measuring_again_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    store = TuningFile(tmp_path)
    assert store.load() == {}
    store.save("hv01", LEARNED)
    assert store.load() == {"hv01": LEARNED}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pipelines", 0),
        ("pipelines", 1000),
        ("pipelines", True),
        ("pipelines", "2"),
        ("deflate", 1),
        ("block_bytes", 1),
        ("window_bytes", 1 << 40),
        ("rate_bytes", -1),
        ("rate_bytes", "fast"),
        ("rate_bytes", float("inf")),
        ("rate_bytes", float("nan")),
        ("rate_bytes", 10**400),
        ("measured", "yesterday"),
        ("measured", "2026-03-01T00:00:00"),
        ("measured", 7),
    ],
)
def test_a_figure_that_was_not_written_by_us_is_not_believed(tmp_path: Path, key: str, value: object) -> None:
    store = TuningFile(tmp_path)
    store.save("hv01", LEARNED)
    store.save("hv02", LEARNED)
    document = json.loads((tmp_path / FILE_NAME).read_text())
    document["hosts"]["hv01"][key] = value
    (tmp_path / FILE_NAME).write_text(json.dumps(document))
    assert store.load() == {"hv02": LEARNED}
    store.save("hv03", LEARNED)
    assert store.load() == {"hv02": LEARNED, "hv03": LEARNED}


def test_a_folder_that_cannot_be_written_costs_only_the_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    TuningFile(tmp_path / "file" / "cache").save("hv01", LEARNED)
    assert TuningFile(tmp_path / "file" / "cache").load() == {}
