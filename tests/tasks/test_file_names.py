"""File names from names of VMs, which may be anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.tasks.file_names import (
    MAX_NAME_BYTES,
    MappedName,
    hidden_name,
    logical_volume_name,
    path_part,
)
from hvpsbridge.tasks.restore.targets import target_path


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("web01", "web01"),
        ("Büro 7 (alt)", "Büro 7 (alt)"),
        ("team/web", "team_web"),
        ("a\\b:c", "a_b_c"),
        (".", "__"),
        ("..", "___"),
        ("", "_"),
        ("~", "_~"),
        ("~root", "_~root"),
        ("-rf", "_-rf"),
        (".hidden", "_.hidden"),
        ("web. .", "web___"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("com1", "_com1"),
        ("console", "console"),
        ("a\nb\x1b[2J", "a_b_[2J"),
        ("right\u202eleft", "right_left"),
        ("half\ud800", "half_"),
        ("Bu\u0308ro", "Büro"),
    ],
)
def test_a_name_becomes_one_part_of_a_path(name: str, part: str) -> None:
    assert path_part(name).lstrip("_") == part.lstrip("_")
    assert path_part(path_part(name)) == path_part(name)
    if part != name:
        assert path_part(name) != name


def test_long_names_stay_apart_and_fit() -> None:
    first, second = ("仮" * 99 + end for end in "ab")
    assert path_part(first) != path_part(second)
    for name in (first, "x" * 300, "é" * 128):
        assert len(os.fsencode(path_part(name))) <= MAX_NAME_BYTES
        assert len(os.fsencode(hidden_name(path_part(name)))) <= MAX_NAME_BYTES
    assert len(os.fsencode(hidden_name("x" * 255))) <= MAX_NAME_BYTES
    assert hidden_name("x" * 255) != hidden_name("x" * 254 + "y")


@pytest.mark.parametrize(
    ("group", "volume", "name"),
    [
        ("vg0", "root", "lvm-vg0-root"),
        ("vg-a", "b", "lvm-vg--a-b"),
        ("vg", "a-b", "lvm-vg-a--b"),
        ("0", "0", "lvm-0-0"),
    ],
)
def test_a_logical_volume_is_named_as_in_dev_mapper(group: str, volume: str, name: str) -> None:
    assert logical_volume_name(group, volume) == name


@given(st.text(alphabet=st.characters(), max_size=200), st.text(alphabet=st.characters(), max_size=200))
def test_any_logical_volume_has_a_safe_name(group: str, volume: str) -> None:
    name = logical_volume_name(group, volume)
    assert name.startswith("lvm-")
    assert path_part(name) == name
    assert len(os.fsencode(name)) <= 200
    assert name != logical_volume_name(volume, group) or group == volume


@given(st.text(alphabet=st.characters(), max_size=300))
def test_any_name_can_be_created(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    part = path_part(name)
    folder = tmp_path_factory.getbasetemp() / "names"
    folder.mkdir(exist_ok=True)
    place = folder / part
    assert place.parent == folder
    assert part not in (".", "..")
    place.touch()
    assert part in os.listdir(folder)
    place.unlink()


def test_names_are_filled_in_once_and_after_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    names = {"vm": "{{ host }}", "host": "{{ vm }}", "run_id": "~"}
    path, mapped = target_path("raw:~/drill/{{ vm }}/{{ host }}", names)
    assert path == Path("/home/me/drill/{{ host }}/{{ vm }}")
    assert mapped == ()
    monkeypatch.chdir("/")
    path, mapped = target_path("raw:{{ run_id }}/x", names)
    assert path == Path("/_~/x")
    assert mapped == (MappedName("~", "_~"),)


def test_a_part_that_is_too_long_once_filled_in_is_cut() -> None:
    path, mapped = target_path("raw:/x/{{ vm }}-{{ vm_id }}", {"vm": "v" * 240, "vm_id": "i" * 36})
    assert len(path.name) <= MAX_NAME_BYTES
    assert [each.file_name for each in mapped] == [path.name]


def test_without_a_home_folder_or_a_working_directory_a_target_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigurationError, match="the working directory cannot be used"):
        target_path("raw:here", {})

    def nobody(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nobody)
    with pytest.raises(ConfigurationError, match="no home folder"):
        target_path("raw:~/here", {})
