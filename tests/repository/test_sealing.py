"""Sealed frames and objects open only as what they were sealed, under keys that are drawn often enough."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from hvpsbridge.formats.chunk import Frame
from hvpsbridge.formats.envelope import Codec, Kind, Seal, context
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.repository import sealing
from hvpsbridge.repository.sealing import KeySealer, derive_keys

FRAME = Frame(
    id=bytes(32),
    kind=Kind.DATA_PACK,
    codec=Codec.RAW,
    seal=Seal.PLAIN,
    epoch=0,
    raw_bytes=4,
    stored_bytes=4,
)


class TestSealer:
    @pytest.fixture
    def sealer(self) -> KeySealer:
        return KeySealer(derive_keys(bytes(range(32)), UUID(int=5)))

    def test_draws_a_new_epoch_long_before_its_key_is_used_up(
        self, sealer: KeySealer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sealing, "EPOCH_USES", 3)
        sealed = [sealer.seal_frame(FRAME, b"data") for _ in range(7)]
        epochs = [head.epoch for head, _ in sealed]
        assert [epochs.count(epoch) for epoch in dict.fromkeys(epochs)] == [3, 3, 1]
        assert len({head.nonce for head, _ in sealed}) == 7
        assert all(bytes(sealer.open_frame(head, body)) == b"data" for head, body in sealed)
        assert sealing.EPOCH_USES < 2**32
        monkeypatch.undo()
        assert sealing.EPOCH_USES <= 2**28

    def test_keeps_data_and_metadata_keys_apart(self, sealer: KeySealer) -> None:
        head, body = sealer.seal_frame(FRAME, b"data")
        with pytest.raises(Malformed):
            sealer.open_frame(replace(head, kind=Kind.NODE_PACK), body)

    @pytest.mark.parametrize(
        "change",
        [{"id": b"\1" * 32}, {"codec": Codec.ZSTD}, {"raw_bytes": 5}, {"epoch": 1}, {"nonce": bytes(12)}],
    )
    def test_opens_no_frame_that_says_anything_else(
        self, sealer: KeySealer, change: dict[str, object]
    ) -> None:
        head, body = sealer.seal_frame(FRAME, b"data")
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
