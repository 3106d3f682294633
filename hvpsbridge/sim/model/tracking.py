"""Change tracking: epochs between ids, three tiers of memory, and answers that over-report.

A guest's write goes to the memory bitmap of the top layer's last epoch. A stop, save or migration flushes it
to the coarser ``.rct``; after a power loss what the still coarser ``.mrt`` recorded remains. An id belongs
to the layer on which it was taken and is looked up down the chain, so ids of an abandoned branch are unknown
(docs/hyperv-facts.md#tracking-tiers, docs/hyperv-facts.md#tracking-breaks).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.formats.extents import Extent
from hvpsbridge.sim.model.errors import DiskError, Win32
from hvpsbridge.sim.model.extentset import ExtentSet
from hvpsbridge.sim.model.knobs import Knobs
from hvpsbridge.sim.model.state import VhdFormat, World
from hvpsbridge.sim.model.stored import Epoch, Layer

# An over-reported range is up to this many times the granularity.
_FALSE_UNITS = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to a change query: how many bytes of the region it covers, and the changes in them."""

    processed_bytes: int
    extents: tuple[Extent, ...]


class Tracking:
    """Change tracking of one world."""

    def __init__(self, world: World, knobs: Knobs) -> None:
        self._world = world
        self._knobs = knobs

    def record(self, layer: Layer, offset: int, length: int) -> None:
        """Record a guest's write to the top layer."""
        if layer.epochs:
            layer.epochs[-1].memory.add(offset, offset + length)

    def freeze(self, layer: Layer) -> str | None:
        """Take an id on a layer that a checkpoint freezes; None if it is not tracked."""
        if self._knobs.tracking_starts_at_conversion and not layer.tracking_enabled:
            return None
        rct_id = self.seal(layer)
        if rct_id is not None:
            layer.epochs[-1].shown = not self._knobs.frozen_id_of_last_point
        return rct_id

    def convert(self, frozen: Layer | None, live: Layer, sealed: str | None, *, late: bool) -> str | None:
        """The id that a reference point gets for a disk; None for a disk without tracking.

        Args:
            frozen: what the checkpoint froze; None if it is gone.
            live: what the VM writes to.
            sealed: the id taken at the freeze, if any.
            late: take a new id at the conversion.
        """
        knobs = self._knobs
        if late or sealed is None:
            return self.seal(live) if sealed is not None or knobs.tracking_starts_at_conversion else None
        if frozen is None or not (knobs.new_id_of_freeze or knobs.frozen_id_of_last_point):
            return sealed
        order = self._world.next()
        other = self._new_id(frozen.disk_id, order)
        for epoch in frozen.epochs:
            if epoch.rct_id == sealed:
                epoch.other_ids.append(other)
        return other

    def seal(self, layer: Layer) -> str | None:
        """Take an id on a layer and turn tracking on. Returns None for a VHD, which has no tracking."""
        if layer.format is not VhdFormat.VHDX:
            return None
        layer.tracking_enabled = True
        layer.tracking_lost = False
        order = self._world.next()
        rct_id = self._new_id(layer.disk_id, order)
        layer.epochs.append(Epoch(rct_id, order))
        return rct_id

    def begin(self, child: Layer, parent: Layer) -> None:
        """Continue the parent's tracking on a new child."""
        if parent.tracking_enabled:
            child.tracking_enabled = True
            child.epochs = [Epoch(None, self._world.next())]

    def merged(self, child: Layer, parent: Layer) -> None:
        """Add a merged child's epochs to its parent's."""
        for epoch in child.epochs:
            if epoch.rct_id is None and parent.epochs:
                last = parent.epochs[-1]
                last.memory.update(epoch.memory)
                last.flushed.update(epoch.flushed)
            else:
                parent.epochs.append(epoch)
        parent.tracking_enabled |= child.tracking_enabled
        parent.tracking_lost |= child.tracking_lost

    def flush(self, layer: Layer) -> None:
        """Flush the bitmap to the ``.rct``, as a stop, save or migration does."""
        self._settle(layer, self._knobs.rct_granularity_bytes)

    def power_loss(self, layer: Layer) -> None:
        """Lose the bitmap; the ``.mrt`` knows roughly where writes went."""
        if self._knobs.power_loss_forgets:
            for epoch in layer.epochs:
                epoch.memory.clear()
        self._settle(layer, self._knobs.mrt_granularity_bytes)

    def forget(self, layer: Layer) -> None:
        """Make all ids of this layer unknown; tracking continues."""
        for epoch in layer.epochs:
            epoch.rct_id = None
            epoch.other_ids.clear()

    def most_recent(self, chain: Sequence[Layer]) -> str | None:
        """``MostRecentId`` of a handle of the top of ``chain``."""
        if self._knobs.info_without_id or chain[0].tracking_lost:
            return None
        for layer in chain:
            for epoch in reversed(layer.epochs):
                if epoch.rct_id is not None and epoch.shown:
                    return epoch.rct_id
                if epoch.other_ids:
                    return epoch.other_ids[-1]
        return None

    def newer_changes(self, chain: Sequence[Layer]) -> bool:
        """``NewerChanges`` of a handle of the top of ``chain``: writes after the most recent id."""
        if self._knobs.newer_changes:
            return True
        for layer in chain:
            for epoch in reversed(layer.epochs):
                if len(epoch.memory) or len(epoch.flushed):
                    return True
                if epoch.rct_id is not None:
                    return False
        return False

    def changed(self, chain: Sequence[Layer], rct_id: str) -> ExtentSet:
        """What was written after ``rct_id`` was taken, as exactly as tracking still knows it.

        Raises:
            DiskError: tracking is off, damaged, or does not know the id.
        """
        top = chain[0]
        if top.format is not VhdFormat.VHDX or not top.tracking_enabled:
            raise DiskError(Win32.VHD_TRACKING_DISABLED, top.path)
        found = ExtentSet()
        for layer in chain:
            if layer.tracking_lost:
                raise DiskError(Win32.VHD_TRACKING_MISSING, top.path)
            for epoch in reversed(layer.epochs):
                found.update(epoch.memory.aligned(self._knobs.memory_granularity_bytes, top.size_bytes))
                found.update(epoch.flushed)
                if rct_id == epoch.rct_id or rct_id in epoch.other_ids:
                    return found
            if self._knobs.ids_differ_on_children:
                break
        if self._knobs.ids_survive_apply:
            return self._answer_anyway(chain, rct_id)
        raise DiskError(Win32.VHD_INVALID_TRACKING_ID, top.path)

    def answer(
        self, chain: Sequence[Layer], rct_id: str, offset: int, length: int, room: int, *, lie: bool = False
    ) -> Answer:
        """One page of the answer to a query, over-reported according to the knobs.

        Args:
            chain: queried file and its parents, top first.
            rct_id: asks for changes after this id.
            offset: start of the region, in bytes.
            length: length of the region, in bytes.
            room: number of ranges that the caller's buffer holds.
            lie: leave out half of the changes, for fault ``query_lies``.

        Raises:
            DiskError: the id is unknown, or the region is not within the disk.
        """
        top, knobs = chain[0], self._knobs
        if length <= 0 or offset + length > top.size_bytes:
            raise DiskError(Win32.INVALID_PARAMETER, top.path)
        wide = self._widened(chain, rct_id)
        if knobs.empty_answers:
            wide = ExtentSet()
        dropped = 0.5 if lie else knobs.missing_changes
        end = offset + (min(length, knobs.pages_bytes) if knobs.pages_bytes else length)
        ranges = list(wide.within(offset, end))
        if dropped:
            chance = self._random(rct_id, top.path, "drop")
            ranges = [extent for extent in ranges if chance.random() >= dropped]
        room = max(1, min(room, knobs.ranges_per_page))
        if len(ranges) > room:
            end = ranges[room].offset
            ranges = ranges[:room]
        if knobs.unsorted_answers:
            self._random(rct_id, top.path, "order").shuffle(ranges)
        if knobs.range_past_end and ranges and ranges[-1].end == top.size_bytes:
            ranges[-1] = Extent(ranges[-1].offset, ranges[-1].length + knobs.rct_granularity_bytes)
        return Answer(end - offset, tuple(ranges))

    # -- inside ---------------------------------------------------------------------------------------

    def _widened(self, chain: Sequence[Layer], rct_id: str) -> ExtentSet:
        """The exact changes and, seeded by id and file, false ones."""
        size, knobs = chain[0].size_bytes, self._knobs
        exact = self.changed(chain, rct_id)
        chance = self._random(rct_id, chain[0].path, "wide")
        unit = max(knobs.memory_granularity_bytes, chain[0].logical_sector_bytes)
        wide = exact.copy()
        for extent in exact:
            if chance.random() < knobs.over_report:
                wide.add(extent.offset, min(extent.end + unit * chance.randint(1, _FALSE_UNITS), size))
        if chance.random() < knobs.over_report:
            start = chance.randrange(size) // unit * unit
            wide.add(start, min(start + unit * chance.randint(1, _FALSE_UNITS), size))
        return wide

    def _answer_anyway(self, chain: Sequence[Layer], rct_id: str) -> ExtentSet:
        """Knob ``ids_survive_apply``: answer for an unknown id by its age."""
        order = int(rct_id.rpartition(":")[2], 16) if rct_id.startswith("rctX:") else 0
        found = ExtentSet()
        for layer in chain:
            for epoch in layer.epochs:
                if epoch.order > order:
                    found.update(epoch.memory)
                    found.update(epoch.flushed)
        return found

    def _settle(self, layer: Layer, unit_bytes: int) -> None:
        for epoch in layer.epochs:
            epoch.flushed.update(epoch.memory.aligned(unit_bytes, layer.size_bytes))
            epoch.memory.clear()

    def _new_id(self, disk_id: UUID, order: int) -> str:
        # No code may parse an id but this simulator (docs/hyperv-facts.md#rct-id-form).
        return f"rctX:{str(disk_id).replace('-', ':')}:{order:08x}"

    def _random(self, *parts: str) -> random.Random:
        return random.Random("|".join((str(self._world.seed), *parts)))  # seeded on purpose
