"""Golden images, against an oracle that simply copies everything."""

from __future__ import annotations

import tempfile
from pathlib import Path
from threading import RLock
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from hvpsbridge.sim.model.golden_image import GoldenImages
from hvpsbridge.sim.model.state import ControllerType, Slot

VM = UUID(int=1)
SLOT = Slot(ControllerType.SCSI, 0, 0)
PAGE = 4096

_STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 15), st.integers(1, 6), st.integers(1, 255)),
    st.tuples(st.just("clear"), st.integers(0, 15), st.integers(1, 6), st.just(0)),
    st.tuples(st.just("freeze"), st.just(0), st.just(0), st.just(0)),
    st.tuples(st.just("apply"), st.integers(0, 9), st.just(0), st.just(0)),
    st.tuples(st.just("resize"), st.integers(1, 20), st.just(0), st.just(0)),
    st.tuples(st.just("look"), st.integers(0, 9), st.just(0), st.just(0)),
    st.tuples(st.just("replace"), st.integers(1, 16), st.just(0), st.just(0)),
    st.tuples(st.just("reload"), st.just(0), st.just(0), st.just(0)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_STEPS, max_size=30))
def test_every_checkpoints_image_is_what_a_full_copy_would_hold(
    steps: list[tuple[str, int, int, int]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        golden = GoldenImages(folder, RLock(), enabled=True)
        live = bytearray(16 * PAGE)
        golden.add(VM, SLOT, len(live), None)
        copies: dict[UUID, bytes] = {}
        for number, (step, a, b, c) in enumerate(steps):
            start, length = a * PAGE, b * PAGE
            inside = start < len(live)
            length = min(length, len(live) - start)
            known = sorted(copies)
            chosen = known[a % len(known)] if known else None
            match step:
                case "write" if inside:
                    golden.write(VM, SLOT, start, bytes([c]) * length)
                    live[start : start + length] = bytes([c]) * length
                case "clear" if inside:
                    golden.clear(VM, SLOT, start, length)
                    live[start : start + length] = bytes(length)
                case "freeze":
                    golden.freeze(UUID(int=1000 + number), VM, SLOT)
                    copies[UUID(int=1000 + number)] = bytes(live)
                case "apply" if chosen:
                    golden.apply(chosen, VM, SLOT)
                    live = bytearray(copies[chosen])
                case "resize":
                    golden.resize(VM, SLOT, start)
                    live = live[:start] + bytes(max(0, start - len(live)))
                case "look" if chosen:
                    assert golden.at_checkpoint(chosen, SLOT).read_bytes() == copies[chosen]
                case "replace":
                    golden.remove(VM, SLOT)
                    golden.add(VM, SLOT, start, None)
                    live = bytearray(start)
                case "reload":
                    golden.save()
                    golden = GoldenImages(folder, RLock(), enabled=True)
            assert golden.live(VM, SLOT).read_bytes() == live
        for checkpoint, copy in copies.items():
            assert golden.at_checkpoint(checkpoint, SLOT).read_bytes() == copy
