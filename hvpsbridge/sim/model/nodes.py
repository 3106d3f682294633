"""Hosts and their event logs."""

from __future__ import annotations

from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.state import Event, Node
from hvpsbridge.sim.model.timeline import Timeline


class Nodes:
    """The hosts of a world."""

    def __init__(self, core: Core, timeline: Timeline) -> None:
        self._core = core
        self._timeline = timeline

    def get(self, name: str | None = None) -> Node:
        """The host of that name, or the first one.

        Raises:
            KeyError: there is no such host.
        """
        with self._timeline.now():
            nodes = self._core.world.nodes
            return nodes[name] if name else next(iter(nodes.values()))

    def all(self) -> tuple[Node, ...]:
        """All hosts, in the order in which they were added."""
        with self._timeline.now():
            return tuple(self._core.world.nodes.values())

    def events(self, node: str | None = None) -> tuple[Event, ...]:
        """Event log entries of a host, or of all hosts, oldest first."""
        with self._timeline.now():
            events = self._core.world.events
            return tuple(event for event in events if node is None or event.node == node)
