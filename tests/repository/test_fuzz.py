"""Whatever is in a store, it is read or refused, by hvps and by restore.py."""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hvpsbridge.errors import Damaged, NewerFormat, WrongKey
from hvpsbridge.formats.envelope import CHECKSUM_BYTES, Codec, Kind, context
from hvpsbridge.formats.index import encode_index
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.record import encode_record
from hvpsbridge.repository import compression
from hvpsbridge.repository.check.footers import read_footer
from hvpsbridge.repository.key_slots import make_slot
from hvpsbridge.repository.layout import pack_name
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.opening import open_on_store
from hvpsbridge.repository.packs import PackWriter
from hvpsbridge.repository.sealing import PlainSealer
from tests.formats.test_fuzz import INDEX, MANIFEST, rounded, with_check
from tests.fuzzing import Target, at_length, briefly
from tests.repository.conftest import CHEAP, KEY, make
from tests.repository.memory_store import MemoryStore
from tests.repository.test_restore_tool import load_tool

REPOSITORY = uuid.UUID(int=5)
POINT = f"points/{MANIFEST.point_id.hex}"
OBJECTS = Objects(MemoryStore(), PlainSealer(REPOSITORY), REPOSITORY)
TOOL = load_tool()


def with_checksum(name: str) -> Callable[[bytes], bytes]:
    """Complete an envelope with the checksum for its name, which anyone can in a plain repository."""

    def complete(data: bytes) -> bytes:
        body = data[:-CHECKSUM_BYTES]
        return body + hashlib.sha256(context(REPOSITORY, name) + body).digest()

    return complete


def a_pack() -> tuple[str, bytes]:
    store = MemoryStore()
    packs: list[bytes] = []
    writer = PackWriter(
        Objects(store, PlainSealer(REPOSITORY), REPOSITORY),
        Kind.DATA_PACK,
        lambda pack: packs.append(pack.name),
    )
    for number in range(3):
        raw = bytes([number]) * 2000
        writer.add(hashlib.sha256(raw).digest(), raw, 3)
    writer.flush()
    name = pack_name(Kind.DATA_PACK, packs[0])
    return name, store.objects[name]


PACK_NAME, PACK = a_pack()


def read_pack(data: bytes) -> None:
    store = MemoryStore()
    store.objects[PACK_NAME] = data
    read_footer(Objects(store, PlainSealer(REPOSITORY), REPOSITORY), PACK_NAME, Kind.DATA_PACK, len(data))


def opened_with_slot() -> tuple[MemoryStore, bytes]:
    store = MemoryStore()
    with make(store, sealed=True) as made:
        slot = make_slot(bytes(32), made.repository_id, KEY, "planted", CHEAP)
    return store, encode_record(slot)


SEALED, PLANTED = opened_with_slot()


def open_beside(data: bytes) -> None:
    """Open a repository beside a planted slot; the real one always opens it."""
    store = MemoryStore()
    store.objects = SEALED.objects | {"keys/" + "0" * 32: data}
    open_on_store(store, key=KEY).close()


def open_with_config(data: bytes) -> None:
    store = MemoryStore()
    store.objects = SEALED.objects | {"config": data}
    open_on_store(store, key=KEY).close()


class Anywhere:
    """A folder in which everything exists."""

    def __truediv__(self, _name: str) -> Path:
        return Path("/")


def tool_reading(data: bytes) -> object:
    """A repository of restore.py in which every object is ``data``."""

    class Fed(TOOL.Repository):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.id, self.master, self.chunk_bytes = REPOSITORY, None, 131072
            self.index: dict[tuple[int, bytes], list[object]] = {}
            self.indexed: set[str] = set()
            self.problems: list[str] = []
            self.folder = Anywhere()
            self.settings = {"format": 1}

        def _open(self, _name: str) -> tuple[io.BytesIO, int]:
            return io.BytesIO(data), len(data)

        def names(self, _prefix: str) -> list[str]:
            return [POINT]

    return Fed()


def of_tool(read: Callable[..., object]) -> Callable[[bytes], object]:
    return lambda data: read(tool_reading(data))


MANIFEST_ENVELOPE = OBJECTS.envelope(POINT, Kind.MANIFEST, MANIFEST.encode())
RAW_ENVELOPE = OBJECTS.envelope(POINT, Kind.MANIFEST, b"{}")
INDEX_NAME = "index/" + "0" * 32
INDEX_ENVELOPE = OBJECTS.envelope(INDEX_NAME, Kind.INDEX, encode_index(INDEX))
ZSTD = compression.compress(b"abc" * 1000, 3)[1]

TARGETS = [
    Target(
        name="envelope",
        samples=(MANIFEST_ENVELOPE, RAW_ENVELOPE),
        complete=with_checksum(POINT),
        parse=lambda data: OBJECTS.open(POINT, Kind.MANIFEST, data),
        refuses=(Damaged,),
    ),
    Target(
        name="zstd",
        samples=(ZSTD,),
        parse=lambda data: compression.expand(Codec.ZSTD, data, 3000),
        refuses=(Malformed,),
    ),
    Target(name="pack", samples=(PACK,), parse=read_pack, refuses=(Damaged,)),
    Target(name="opening beside a slot", samples=(PLANTED,), parse=open_beside, refuses=()),
    replace(
        Target(name="opening beside a complete slot", samples=(PLANTED,), parse=open_beside, refuses=()),
        complete=with_check,
    ),
    Target(
        name="opening with a config",
        samples=(SEALED.objects["config"],),
        complete=rounded,
        parse=open_with_config,
        refuses=(Damaged, NewerFormat, WrongKey),
    ),
    Target(
        name="restore.py envelope",
        samples=(INDEX_ENVELOPE,),
        complete=with_checksum(INDEX_NAME),
        parse=of_tool(lambda tool: tool._take_index(tool.open_object(INDEX_NAME, TOOL.INDEX), INDEX_NAME)),
        refuses=(TOOL.Damage,),
    ),
    Target(
        name="restore.py index",
        samples=(encode_index(INDEX),),
        parse=lambda data: tool_reading(b"")._take_index(data, INDEX_NAME),  # type: ignore[attr-defined]
        refuses=(TOOL.Damage,),
    ),
    Target(
        name="restore.py manifest",
        samples=(MANIFEST.encode(),),
        parse=lambda data: of_tool(lambda tool: TOOL.command_list(tool, None))(
            OBJECTS.envelope(POINT, Kind.MANIFEST, data)
        ),
        refuses=(),
    ),
    Target(
        name="restore.py pack",
        samples=(PACK,),
        parse=of_tool(lambda tool: tool._take_entries(PACK_NAME, 1, tool._footer(PACK_NAME, 1))),
        refuses=(TOOL.Damage,),
    ),
    Target(
        name="restore.py frame",
        samples=(PACK,),
        parse=of_tool(
            lambda tool: tool._fetch_from(PACK_NAME, 8, 100, hashlib.sha256(bytes(2000)).digest(), TOOL.DATA)
        ),
        refuses=(TOOL.Damage,),
    ),
    Target(
        name="restore.py slot",
        samples=(PLANTED,),
        complete=with_check,
        parse=of_tool(lambda tool: tool._slot("keys/" + "0" * 32)),
        refuses=(),
    ),
    Target(
        name="restore.py config",
        samples=(SEALED.objects["config"],),
        complete=rounded,
        parse=of_tool(lambda tool: tool._settings()),
        refuses=(TOOL.Failure,),
    ),
]


test_mutated_input_is_read_or_refused = briefly(TARGETS, examples=25)
test_a_million_mutated_inputs_are_read_or_refused = at_length(TARGETS)
