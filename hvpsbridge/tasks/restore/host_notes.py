"""What a new VM on a host does not have of the one in the point, one line each."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from hvpsbridge.formats.vm_plan import isos_in, left_out, wants_tpm
from hvpsbridge.repository import Point, Repository
from hvpsbridge.tasks.restore.boot_loader import boot_loader_notes


def left_out_notes(
    repository: Repository,
    point: Point,
    slots: Collection[str],
    isos: Collection[str],
    *,
    from_config: bool,
    new_tpm: bool,
) -> Iterator[str]:
    """What to say of the VM.

    Args:
        repository: of the point.
        point: that was restored.
        slots: of the restored disks.
        isos: ISO files of its DVD drives that the host has.
        from_config: it was made of its configuration files, and not of the definition.
        new_tpm: it may have a new vTPM.
    """
    definition = point.manifest.definition
    for iso in isos_in(definition):
        if iso not in isos:
            yield f"left out: {iso}, which the host does not have"
    if from_config:
        for disk in point.disks:
            if disk.slot not in slots:
                yield f"left out: disk {disk.slot}, whose drive is empty"
        return
    for what in left_out(definition):
        yield f"left out: {what}"
    if wants_tpm(definition) and not new_tpm:
        yield "if the VM has no vTPM now, or does not start with it: restore with --new-tpm"
    yield from boot_loader_notes(repository, point, slots)
