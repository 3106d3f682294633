"""Chains: the files of a virtual disk, from the one that is written to down to the base."""

from __future__ import annotations

from collections.abc import Sequence


def same_chain(left: Sequence[str], right: Sequence[str]) -> bool:
    """Whether two chains are the same files in the same order, ignoring case."""
    return [path.casefold() for path in left] == [path.casefold() for path in right]


def differ_by_checkpoints(left: Sequence[str], right: Sequence[str]) -> bool:
    """Whether two chains of one base differ only in files that checkpoints add to a chain.

    A VM with automatic checkpoints has such chains at each backup (docs/hyperv-facts.md#frozen-files).
    """
    same_base = bool(left and right) and same_chain(left[-1:], right[-1:])
    return same_base and all(map(is_child_file, [*left[:-1], *right[:-1]]))


def is_child_file(path: str) -> bool:
    """Whether a file is one that a checkpoint adds to a chain, by its extension."""
    return path.casefold().endswith((".avhdx", ".avhd"))


def chain_text(chain: Sequence[str]) -> str:
    """A chain by the names of its files, top first; one line."""
    return " < ".join(path.replace("/", "\\").rsplit("\\", 1)[-1] for path in chain)
