"""Configuration files and planned VMs on a simulated host."""

from __future__ import annotations

from uuid import UUID

from hvpsbridge.sim.model import Model
from hvpsbridge.sim.model.state import JobKind

FOLDER = "C:\\Imports"


def write_file(model: Model, content: bytes, name: str = "a.vmcx") -> str:
    """A file with that content, as a program writes it; its path."""
    path, files = f"{FOLDER}\\{name}", model.host_files
    files.set_folder(FOLDER)
    handle = files.create(path, "pid:1")
    files.will_write(handle, 0, len(content))
    files.backing_of(handle).write_bytes(content)
    files.close(handle)
    return path


def configuration_file(
    model: Model, vm_id: UUID, name: str = "a.vmcx", checkpoint: UUID | None = None
) -> str:
    """The configuration of a VM or of a checkpoint, copied to a file; its path."""
    return write_file(model, model.vms.configuration(vm_id, checkpoint)[0].content, name)


def planned(model: Model, path: str, name: str = "planned", mark: str = "mark") -> UUID:
    """Id of a planned VM of a configuration file, with that name and mark."""
    job = model.jobs.wait(model.planned.import_definition(path, new_id=True))
    assert job.error_code == 0, job.error_text
    model.planned.modify(job.vm_id, {"ElementName": name, "Notes": [mark]})
    return job.vm_id


def act(model: Model, kind: JobKind, vm_id: UUID) -> str:
    """The error of a job about a planned VM; empty if there is none."""
    return model.jobs.wait(model.planned.act(kind, vm_id)).error_text
