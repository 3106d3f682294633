"""The target ``libvirt:FOLDER``: qcow2 files, a domain for virsh, and a script that starts QEMU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hvpsbridge.errors import ConfigurationError, TargetExists
from hvpsbridge.files import replace_file
from hvpsbridge.formats.libvirt_domain import DomainDisk, domain_of, domain_xml
from hvpsbridge.formats.qemu_options import qemu_script
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.file_names import MappedName
from hvpsbridge.tasks.restore.images import ImageFiles
from hvpsbridge.tasks.restore.results import Finished, RestoredDisk
from hvpsbridge.tasks.restore.source import DiskSource

DOMAIN_NAME = "domain.xml"
SCRIPT_NAME = "run-qemu"


@dataclass(frozen=True, slots=True)
class LibvirtFolder:
    """A folder with everything that libvirt or QEMU needs to start the VM.

    Attributes:
        images: the qcow2 files.
    """

    images: ImageFiles

    @property
    def mapped(self) -> tuple[MappedName, ...]:
        """Names that had to be changed to become parts of the path."""
        return self.images.mapped

    def check(self, point: Point, sources: Sequence[DiskSource]) -> None:
        """Refuse a folder that has a domain already, and single disks.

        Raises:
            ConfigurationError: a disk is left out.
            TargetExists: the folder has the files of another VM.
        """
        if len(sources) != len(point.disks):
            raise ConfigurationError("--disk", "a domain needs all disks of the VM; use qcow2: for one disk")
        if not self.images.overwrite:
            for path in self._files():
                if path.exists():
                    raise TargetExists(str(path))
        self.images.check(point, sources)

    def unfinished(self) -> tuple[Path, ...]:
        """Hidden files of killed restores in the folder."""
        return self.images.unfinished()

    def write(self, source: DiskSource) -> RestoredDisk:
        """Write the qcow2 file of a disk; errors are those of :class:`ImageFiles`."""
        return self.images.write(source)

    def finish(self, point: Point, disks: Sequence[RestoredDisk]) -> Finished:
        """Write the domain and the script.

        Raises:
            ConfigurationError: they cannot be written.
        """
        made = [DomainDisk(disk.path, disk.slot, disk.sector_bytes) for disk in disks]
        domain = domain_of(point.vm_name, point.manifest.definition, made)
        xml, script = self._files()
        try:
            self.images.path.mkdir(parents=True, exist_ok=True)
            replace_file(xml, domain_xml(domain))
            replace_file(script, qemu_script(domain))
            script.chmod(0o700)
        except OSError as err:
            raise ConfigurationError(str(self.images.path), err.strerror or str(err)) from err
        return Finished(
            (
                f"define the VM: virsh define {xml}",
                f"or start it without libvirt: {script}",
                *(f"the VM's definition lacks {lacking}" for lacking in domain.lacks),
            )
        )

    def _files(self) -> tuple[Path, Path]:
        return self.images.path / DOMAIN_NAME, self.images.path / SCRIPT_NAME
