"""A repository opens with its keys and nothing else; wrong key, damage and newer format differ."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from hvpsbridge.errors import Damaged, NewerFormat, WrongKey
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.keyslot import KeySlot
from hvpsbridge.formats.record import decode_record, encode_record
from hvpsbridge.repository import Repository, sealing
from hvpsbridge.repository.key_slots import make_slot
from hvpsbridge.repository.opening import create_on_store, open_on_store
from hvpsbridge.repository.unlocking import MAX_TRIED_KIB, passphrase_forms
from hvpsbridge.secret import Secret
from tests.repository.conftest import CHEAP, CHUNK, KEY, make
from tests.repository.memory_store import MemoryStore
from tests.repository.slots import OTHER, read_slot, slot_names


class TestOpening:
    def test_needs_the_key(self, sealed: Repository, store: MemoryStore) -> None:
        for key in (None, OTHER, Secret(""), Secret(KEY.reveal() + " "), Secret("\udcff")):
            with pytest.raises(WrongKey):
                open_on_store(store, key=key)
        open_on_store(store, key=KEY).close()

    @pytest.mark.parametrize("made", ["NFC", "NFD", "given"])
    def test_takes_a_passphrase_however_its_accents_are_typed(self, store: MemoryStore, made: str) -> None:
        mixed = "Sch\u00f6ne Gru\u0308\u00dfe"
        forms = {form: unicodedata.normalize(form, mixed) for form in ("NFC", "NFD")} | {"given": mixed}
        create_on_store(store, ChunkGrid(CHUNK), key=Secret(forms[made]), cost=CHEAP).close()
        for typed in ("given",) if made == "given" else forms:
            open_on_store(store, key=Secret(forms[typed])).close()
        with pytest.raises(WrongKey):
            open_on_store(store, key=Secret("Schone Gru\u00dfe"))

    def test_tries_at_most_three_forms_of_a_passphrase(self) -> None:
        assert passphrase_forms("plain") == ("plain",)
        assert passphrase_forms("\u00f6") == ("\u00f6", "o\u0308")
        assert len(passphrase_forms("\u00f6o\u0308")) == 3

    @pytest.mark.parametrize("at", range(0, 600, 13))
    def test_with_a_damaged_slot_says_damage(self, sealed: Repository, store: MemoryStore, at: int) -> None:
        (name,) = slot_names(store)
        data = bytearray(store.objects[name])
        data[at % len(data)] ^= 1
        store.objects[name] = bytes(data)
        with pytest.raises(Damaged, match="keys/"):
            open_on_store(store, key=KEY)

    def test_works_by_another_slot_when_one_is_damaged(self, sealed: Repository, store: MemoryStore) -> None:
        (first,) = slot_names(store)
        sealed.keys.add(OTHER, cost=CHEAP)
        store.objects[first] = b"?" * 50
        open_on_store(store, key=OTHER).close()

    def test_with_changed_settings_is_refused_without_saying_which_slot_opened(
        self, sealed: Repository, store: MemoryStore
    ) -> None:
        exported = sealed.keys.export().text
        text = json.loads(store.objects["config"])
        text["chunk_bytes"] *= 2
        store.objects["config"] = json.dumps(text, sort_keys=True, separators=(",", ":")).encode()
        errors = []
        for key in (KEY, OTHER):
            with pytest.raises(WrongKey) as caught:
                open_on_store(store, key=key)
            errors.append(str(caught.value))
        assert errors[0] == errors[1]
        with pytest.raises(Damaged, match="check"):
            open_on_store(store, key=exported)

    def test_of_a_newer_format_is_told_before_the_key_is_tried(
        self, sealed: Repository, store: MemoryStore
    ) -> None:
        store.objects["config"] = store.objects["config"].replace(b'"format":', b'"format":9')
        with pytest.raises(NewerFormat):
            open_on_store(store, key=OTHER)

    @pytest.mark.parametrize(
        "changes",
        [
            {"memory_kib": 2**30},
            {"memory_kib": 8},
            {"iterations": 0},
            {"iterations": 65},
            {"memory_kib": 256 * 1024, "iterations": 4},
            {"lanes": 64},
            {"salt": b""},
            {"nonce": b""},
            {"nonce": bytes(16)},
            {"wrapped": bytes(64)},
            {"wrapped": b""},
            {"label": b"ab"},
            {"label": bytes(1200)},
        ],
        ids=lambda changes: " ".join(changes),
    )
    def test_is_not_closed_by_a_slot_that_no_hvps_makes(
        self, sealed: Repository, store: MemoryStore, changes: dict[str, object]
    ) -> None:
        (name,) = slot_names(store)
        odd = replace(read_slot(store, name), slot_id=UUID(int=1), **changes)  # type: ignore[arg-type]
        store.objects[f"keys/{UUID(int=1).hex}"] = encode_record(replace(odd, check=odd.digest()))
        with open_on_store(store, key=KEY) as opened:
            assert [damage.name for damage in opened.keys.damaged_slots()] == [f"keys/{UUID(int=1).hex}"]
            assert [slot.label for slot in opened.keys.slots()] == ["first"]
        del store.objects[name]
        with pytest.raises(Damaged, match=r"bounds|length"):
            open_on_store(store, key=KEY)

    def test_passes_over_a_slot_that_opens_but_holds_another_key(
        self, sealed: Repository, store: MemoryStore
    ) -> None:
        (real,) = slot_names(store)
        planted = make_slot(bytes(32), sealed.repository_id, KEY, "planted", CHEAP)
        store.objects[f"keys/{planted.slot_id.hex}"] = encode_record(planted)
        open_on_store(store, key=KEY).close()
        del store.objects[real]
        errors = []
        for key in (KEY, OTHER):
            with pytest.raises(WrongKey) as caught:
                open_on_store(store, key=key)
            errors.append(str(caught.value))
        assert errors[0] == errors[1]

    def test_tries_the_slot_that_opened_last_time_first(
        self, sealed: Repository, store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        open_on_store(store, key=KEY, cache_folder=tmp_path).close()
        (real,) = slot_names(store)
        for number in range(20):
            copy = replace(read_slot(store, real), slot_id=UUID(int=number))
            store.objects[f"keys/{copy.slot_id.hex}"] = encode_record(replace(copy, check=copy.digest()))
        tried = []
        stretch = sealing.stretch

        def counting(*arguments: Any) -> bytes:
            tried.append(arguments)
            return stretch(*arguments)

        monkeypatch.setattr(sealing, "stretch", counting)
        open_on_store(store, key=KEY, cache_folder=tmp_path).close()
        assert len(tried) == 1

    def test_costs_no_more_than_a_bound(
        self, sealed: Repository, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (real,) = slot_names(store)
        slot = read_slot(store, real)
        cost = 0

        def count(_phrase: str, _salt: bytes, memory_kib: int, iterations: int, _lanes: int) -> bytes:
            nonlocal cost
            cost += memory_kib * iterations
            return bytes(32)

        monkeypatch.setattr(sealing, "stretch", count)
        for memory_kib, how_many in ((256 * 1024, 300), (1024, 1000)):
            cost = 0
            for number in range(how_many):
                copy = replace(slot, slot_id=UUID(int=number), memory_kib=memory_kib)
                store.objects[f"keys/{copy.slot_id.hex}"] = encode_record(replace(copy, check=copy.digest()))
            with pytest.raises(WrongKey, match="more than are tried"):
                open_on_store(store, key=OTHER)
            assert 0 < cost <= MAX_TRIED_KIB

    def test_does_not_read_a_slot_of_any_size(self, sealed: Repository, store: MemoryStore) -> None:
        store.objects[f"keys/{UUID(int=1).hex}"] = bytes(10_000)
        open_on_store(store, key=KEY).close()

    def test_refuses_costs_that_were_lowered(self, sealed: Repository, store: MemoryStore) -> None:
        (name,) = slot_names(store)
        slot = decode_record(KeySlot, store.objects[name])
        lowered = replace(slot, created=slot.created.replace(year=1999))
        store.objects[name] = encode_record(replace(lowered, check=lowered.digest()))
        with pytest.raises(WrongKey):
            open_on_store(store, key=KEY)

    def test_ignores_the_slot_of_an_init_that_lost(self, sealed: Repository, store: MemoryStore) -> None:
        loser = MemoryStore()
        make(loser, sealed=True)
        store.objects.update({name: loser.objects[name] for name in slot_names(loser)})
        assert len(slot_names(store)) == 2
        with open_on_store(store, key=KEY) as opened:
            assert len(opened.keys.slots()) == 1
