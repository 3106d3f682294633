"""Keys open what they should and nothing else; wrong key, damage and newer format are different errors."""

from __future__ import annotations

import hashlib
import json
import random
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import ConfigurationError, Damaged, KeyNeeded, NewerFormat, StoreError, WrongKey
from hvpsbridge.formats.chunk import FRAME_BYTES, Frame
from hvpsbridge.formats.envelope import TAG_BYTES, Codec, Kind, Seal, context
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.keyslot import KeySlot, exported_text, parse_exported
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.pack import HEAD_BYTES
from hvpsbridge.formats.record import decode_record, encode_record
from hvpsbridge.repository import Repository, current_holder, sealing
from hvpsbridge.repository.check.restore_tool import shipped as restore_tool
from hvpsbridge.repository.compression import DEFAULT_LEVEL, compress
from hvpsbridge.repository.key_slots import make_slot
from hvpsbridge.repository.opening import create_on_store, open_on_store
from hvpsbridge.repository.sealing import KeySealer
from hvpsbridge.repository.unlocking import MAX_TRIED_KIB, passphrase_forms
from hvpsbridge.secret import Secret
from tests.repository.conftest import CHEAP, CHUNK, KEY, VM, content_of, make, reopen, store_point
from tests.repository.memory_store import MemoryStore

OTHER = Secret("another passphrase")


@pytest.fixture
def sealed(store: MemoryStore) -> Repository:
    return make(store, sealed=True)


def slot_names(store: MemoryStore) -> list[str]:
    return [name for name in store.objects if name.startswith("keys/")]


def read_slot(store: MemoryStore, name: str) -> KeySlot:
    return decode_record(KeySlot, store.objects[name])


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


class TestSlots:
    def test_are_added_listed_and_removed(self, sealed: Repository, store: MemoryStore) -> None:
        added = sealed.keys.add(OTHER, "bank vault", cost=CHEAP)
        assert [slot.label for slot in sealed.keys.slots()] == ["first", "bank vault"]
        with open_on_store(store, key=OTHER) as opened:
            opened.keys.remove(opened.keys.slots()[0].slot_id)
        with pytest.raises(WrongKey):
            open_on_store(store, key=KEY)
        with pytest.raises(KeyNeeded, match="last"):
            sealed.keys.remove(added.slot_id)
        with pytest.raises(KeyNeeded, match="no slot"):
            sealed.keys.remove(uuid4())

    def test_that_others_added_are_not_listed_and_never_count_as_the_last(
        self, sealed: Repository, store: MemoryStore
    ) -> None:
        (real,) = slot_names(store)
        copy = replace(read_slot(store, real), slot_id=UUID(int=1))
        name = f"keys/{copy.slot_id.hex}"
        store.objects[name] = encode_record(replace(copy, check=copy.digest()))
        assert [slot.label for slot in sealed.keys.slots()] == ["first"]
        assert [damage.name for damage in sealed.keys.damaged_slots()] == [name]
        with pytest.raises(KeyNeeded, match="last"):
            sealed.keys.remove(UUID(real.removeprefix("keys/")))
        sealed.keys.remove(copy.slot_id)
        assert slot_names(store) == [real]
        open_on_store(store, key=KEY).close()

    def test_are_only_removed_with_the_key_of_one_that_stays(
        self, sealed: Repository, store: MemoryStore
    ) -> None:
        (first,) = slot_names(store)
        added = sealed.keys.add(OTHER, cost=CHEAP)
        removed = read_slot(store, f"keys/{added.slot_id.hex}")
        with pytest.raises(KeyNeeded, match="give the key of a slot that stays"):
            sealed.keys.remove(UUID(first.removeprefix("keys/")))
        sealed.keys.remove(added.slot_id)
        # Somebody puts the label of the removed slot back with something else.
        odd = replace(removed, wrapped=bytes(48))
        store.objects[f"keys/{added.slot_id.hex}"] = encode_record(replace(odd, check=odd.digest()))
        with reopen(store) as opened, pytest.raises(KeyNeeded):
            opened.keys.remove(UUID(first.removeprefix("keys/")))
        open_on_store(store, key=KEY).close()

    def test_are_not_removed_behind_a_flood_of_others(self, sealed: Repository, store: MemoryStore) -> None:
        (real,) = slot_names(store)
        slot = read_slot(store, real)
        for number in range(300):
            copy = replace(slot, slot_id=UUID(int=number))
            store.objects[f"keys/{copy.slot_id.hex}"] = encode_record(replace(copy, check=copy.digest()))
        with pytest.raises(KeyNeeded):
            sealed.keys.remove(slot.slot_id)
        assert real in store.objects
        assert [each.slot_id for each in sealed.keys.slots()] == [slot.slot_id]

    @pytest.mark.parametrize("label", ["x" * 1025, "\udcff"], ids=["long", "half a surrogate"])
    def test_do_not_take_any_label(self, sealed: Repository, label: str) -> None:
        with pytest.raises(ConfigurationError, match="label"):
            sealed.keys.add(OTHER, label, cost=CHEAP)

    def test_hide_their_labels(self, sealed: Repository, store: MemoryStore) -> None:
        sealed.keys.add(OTHER, "bank vault", cost=CHEAP)
        assert not [name for name, data in store.objects.items() if b"bank vault" in data]

    def test_do_not_take_a_passphrase_that_is_not_utf_8(self, sealed: Repository) -> None:
        with pytest.raises(ConfigurationError, match="UTF-8"):
            sealed.keys.add(Secret("\udcff"), cost=CHEAP)

    def test_do_not_take_an_empty_passphrase(self, sealed: Repository) -> None:
        with pytest.raises(ValueError, match="empty"):
            sealed.keys.add(Secret(""), cost=CHEAP)

    def test_are_none_in_a_plain_repository(self, store: MemoryStore) -> None:
        with make(store) as plain, pytest.raises(KeyNeeded, match="plain"):
            plain.keys.add(OTHER)


class TestExport:
    def test_opens_the_repository_without_any_slot(self, sealed: Repository, store: MemoryStore) -> None:
        content = random.Random(1).randbytes(3 * CHUNK)
        point = store_point(sealed, content)
        text = sealed.keys.export().text
        for name in slot_names(store):
            del store.objects[name]
        with pytest.raises(WrongKey, match="exported"):
            open_on_store(store, key=KEY)
        with open_on_store(store, key=text) as opened:
            assert content_of(opened, point) == content
            opened.keys.add(OTHER, cost=CHEAP)
        open_on_store(store, key=OTHER).close()

    def test_is_given_beside_a_planted_record(self, sealed: Repository, store: MemoryStore) -> None:
        store.objects["exports/ffffffffffffffff"] = b"x"
        store.objects[f"exports/{2**48 - 1:016x}"] = b"x"
        assert sealed.keys.export().text == sealed.keys.export().text
        assert f"exports/{2**48 + 1:016x}" in store.objects

    def test_is_given_by_a_store_that_cannot_be_written_to(
        self, sealed: Repository, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(name: str, _data: bytes) -> None:
            raise StoreError(store.url, "create", name, "read-only")

        monkeypatch.setattr(store, "put", refuse)
        assert sealed.keys.export().text

    def test_ends_the_reminder(self, sealed: Repository, store: MemoryStore) -> None:
        assert not sealed.keys.exported
        sealed.keys.export()
        sealed.keys.export()
        assert sealed.keys.exported
        with reopen(store) as other:
            assert other.keys.exported

    def test_page_has_the_key_and_what_restore_py_must_be(
        self, sealed: Repository, store: MemoryStore
    ) -> None:
        exported = sealed.keys.export()
        page = exported.page.reveal()
        assert exported.restore_sha256 == hashlib.sha256(store.objects["restore.py"]).hexdigest()
        assert exported.restore_sha256 in page
        assert store.objects["restore.py"] == restore_tool()
        groups = exported.text.reveal().split(" ")[2]
        typed = "".join(line.strip() for line in page.splitlines() if line.startswith("    ") and "-" in line)
        assert groups[:29] in page.replace("\n    ", "-")
        assert groups.replace("-", "")[:12] in typed.replace("-", "")
        assert max(map(len, page.splitlines())) <= 78
        assert str(sealed.repository_id) in page

    def test_survives_being_typed(self) -> None:
        master, repository_id = bytes(range(32)), uuid4()
        text = exported_text(master, repository_id)
        mark, identity, groups = text.split(" ")
        spread = f"  {mark}\n{identity}\t" + groups.replace("-", " -\n ") + "\n"
        for typed in (text, text.upper(), spread, f"{mark} {identity} {groups.replace('-', '')}"):
            assert parse_exported(typed) == (master, repository_id)
        assert parse_exported("just a passphrase") is None

    def test_tells_a_typing_mistake_from_a_wrong_key(self, sealed: Repository, store: MemoryStore) -> None:
        text = sealed.keys.export().text.reveal()
        last = "0" if text[-1] != "0" else "1"
        with pytest.raises(WrongKey, match="typing mistake"):
            open_on_store(store, key=Secret(text[:-1] + last))
        with pytest.raises(Malformed):
            parse_exported(text[:-1])
        with pytest.raises(WrongKey, match="repository"):
            open_on_store(store, key=Secret(exported_text(bytes(32), uuid4())))
        with pytest.raises(Damaged):  # right form, other key: the settings do not check
            open_on_store(store, key=Secret(exported_text(bytes(32), sealed.repository_id)))


class TestWhatLeaks:
    def test_nothing_that_names_a_vm_or_its_data(self, sealed: Repository, store: MemoryStore) -> None:
        canary = b"CANARY-in-the-disk"
        content = (canary * CHUNK)[: 2 * CHUNK]
        point = store_point(sealed, content, vm_name="canary-vm", host="canary-host")
        entry = LedgerEntry(
            kind=LedgerKind.RUN_STARTED, run_id=uuid4(), vm_id=VM, host="canary-host", at=point.created
        )
        sealed.ledger(VM).append(entry)
        sealed.lease(VM, current_holder(uuid4())).release()
        secrets = [canary, b"canary-vm", b"canary-host", VM.bytes, str(VM).encode(), VM.hex.encode()]
        secrets += [KEY.reveal().encode(), hashlib.sha256(content[:CHUNK]).digest(), b"C:\\vm"]
        del store.objects["restore.py"]
        for name, data in store.objects.items():
            for secret in secrets:
                assert secret not in data, (name, secret)
                assert secret not in name.encode()

    def test_lengths_of_compressed_chunks_are_a_fingerprint_of_known_content(
        self, sealed: Repository, store: MemoryStore
    ) -> None:
        # The page on threats says so; if this fails because lengths are hidden now, it is out of date.
        chance = random.Random(7)
        known = b"".join(
            b"line %d " % chance.randrange(10**6) * (k + 1) for k in range(200) for _ in range(20)
        )
        known = (known * (4 * CHUNK // len(known) + 1))[: 4 * CHUNK]
        store_point(sealed, known)
        expected = {
            len(compress(known[at : at + CHUNK], DEFAULT_LEVEL)[1]) + TAG_BYTES
            for at in range(0, len(known), CHUNK)
        }
        stored = set()
        for name, data in store.objects.items():
            if name.startswith("data/"):
                at = HEAD_BYTES
                while data[at + 32] == Kind.DATA_PACK:  # the id is followed by the kind
                    length = int.from_bytes(data[at + 44 : at + 48], "little")
                    stored.add(length)
                    at += FRAME_BYTES + length
        assert expected == stored

    def test_equal_content_looks_different_in_another_repository(self) -> None:
        content = b"same" * CHUNK
        ids = []
        for _ in range(2):
            store = MemoryStore()
            with make(store, sealed=True) as repository:
                point = store_point(repository, content[:CHUNK])
                ids.append(point.disks[0].tree.root)
        assert ids[0] != ids[1]


def test_two_who_remove_each_others_slot_do_not_lock_everybody_out(store: MemoryStore) -> None:
    with make(store, sealed=True) as repository:
        second = repository.keys.add(Secret("second"), cost=CHEAP)
        (first,) = (slot for slot in repository.keys.slots() if slot != second)

        class Racing(MemoryStore):
            """Another process removes the second slot just before this one removes the first."""

            def delete(self, name: str) -> None:
                self.objects.pop(f"keys/{second.slot_id.hex}", None)
                super().delete(name)

        racing = Racing()
        racing.objects = store.objects
        other = open_on_store(racing, key=Secret("second"))
        with other, pytest.raises(KeyNeeded, match="last slot"):
            other.keys.remove(first.slot_id)
    with reopen(store) as fresh:
        assert [slot.slot_id for slot in fresh.keys.slots()] == [first.slot_id]


class TestSealer:
    @pytest.fixture
    def sealer(self) -> KeySealer:
        return KeySealer(bytes(range(32)), UUID(int=5))

    def test_draws_a_new_epoch_long_before_its_key_is_used_up(
        self, sealer: KeySealer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sealing, "EPOCH_USES", 3)
        frame = Frame(
            id=bytes(32),
            kind=Kind.DATA_PACK,
            codec=Codec.RAW,
            seal=Seal.PLAIN,
            epoch=0,
            raw_bytes=4,
            stored_bytes=4,
        )
        sealed = [sealer.seal_frame(frame, b"data") for _ in range(7)]
        epochs = [head.epoch for head, _ in sealed]
        assert [epochs.count(epoch) for epoch in dict.fromkeys(epochs)] == [3, 3, 1]
        assert len({head.nonce for head, _ in sealed}) == 7
        assert all(bytes(sealer.open_frame(head, body)) == b"data" for head, body in sealed)
        assert sealing.EPOCH_USES < 2**32
        monkeypatch.undo()
        assert sealing.EPOCH_USES <= 2**28

    def test_keeps_data_and_metadata_keys_apart(self, sealer: KeySealer) -> None:
        frame = Frame(
            id=bytes(32),
            kind=Kind.DATA_PACK,
            codec=Codec.RAW,
            seal=Seal.PLAIN,
            epoch=0,
            raw_bytes=4,
            stored_bytes=4,
        )
        head, body = sealer.seal_frame(frame, b"data")
        with pytest.raises(Malformed):
            sealer.open_frame(replace(head, kind=Kind.NODE_PACK), body)

    @pytest.mark.parametrize(
        "change",
        [{"id": b"\1" * 32}, {"codec": Codec.ZSTD}, {"raw_bytes": 5}, {"epoch": 1}, {"nonce": bytes(12)}],
    )
    def test_opens_no_frame_that_says_anything_else(
        self, sealer: KeySealer, change: dict[str, object]
    ) -> None:
        frame = Frame(
            id=bytes(32),
            kind=Kind.DATA_PACK,
            codec=Codec.RAW,
            seal=Seal.PLAIN,
            epoch=0,
            raw_bytes=4,
            stored_bytes=4,
        )
        head, body = sealer.seal_frame(frame, b"data")
        with pytest.raises(Malformed):
            sealer.open_frame(replace(head, **change), body)  # type: ignore[arg-type]  # by keyword

    def test_opens_an_object_only_in_its_place(self, sealer: KeySealer) -> None:
        place = context(UUID(int=5), "points/a")
        data = sealer.seal_object(Kind.MANIFEST, Codec.RAW, 4, b"text", place)
        assert sealer.open_object(data, Kind.MANIFEST, place)[1] == b"text"
        for wrong in (context(UUID(int=5), "points/b"), context(UUID(int=6), "points/a")):
            with pytest.raises(Malformed):
                sealer.open_object(data, Kind.MANIFEST, wrong)
        with pytest.raises(Malformed):
            sealer.open_object(data, Kind.INDEX, place)
