"""New files on an SFTP server: each is whole when it gets its name, and a name is given only once."""

from __future__ import annotations

import contextlib
import logging
import secrets
from typing import NoReturn

import asyncssh

from hvpsbridge.errors import NoSpace, ObjectExists, StoreError
from hvpsbridge.files import FOLDER_MODE
from hvpsbridge.repository.stores.base import FOLDER_IS_LINK, TEMPORARY_FOLDER
from hvpsbridge.repository.stores.naming import ABANDONED_SECONDS, FILE_MODE
from hvpsbridge.repository.stores.ssh import SshConnection

logger = logging.getLogger(__name__)


class SftpFiles:
    """Creates files below a root. Its coroutines run on the loop of the connection.

    Attributes:
        durable: whether the server can flush files; None if that was not tried yet.
    """

    def __init__(self, ssh: SshConnection) -> None:
        self._ssh = ssh
        self._url = ssh.url
        self._root = ssh.path
        self._temporary = f"{ssh.path}/{TEMPORARY_FOLDER}"
        self._folders: set[str] = set()
        self._real: set[str] = set()
        self.durable: bool | None = None

    async def make_folder(self, path: str) -> None:
        """Make a folder, and those above it, unless it was made before."""
        if path in self._folders:
            return
        await self._ssh.sftp.makedirs(path, asyncssh.SFTPAttrs(permissions=FOLDER_MODE), exist_ok=True)
        self._folders.add(path)

    async def refuse_links(self, folder: str) -> None:
        """Refuse to write where a link leads out of the directory; looked at once for each folder."""
        while folder != self._root and folder not in self._real:
            with contextlib.suppress(asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
                if (await self._ssh.sftp.lstat(folder)).type == asyncssh.FILEXFER_TYPE_SYMLINK:
                    raise StoreError(self._url, "write", folder, FOLDER_IS_LINK)
                self._real.add(folder)
            folder = folder.rsplit("/", 1)[0]

    async def upload(self, data: bytes, *, keep: bool = True) -> str:
        """Path of a new, flushed temporary file with ``data``."""
        await self.make_folder(self._temporary)
        await self.refuse_links(self._temporary)
        path = f"{self._temporary}/{secrets.token_hex(16)}"
        try:
            await self._write(path, data)
        except BaseException:
            with contextlib.suppress(asyncssh.Error, OSError):
                await self._ssh.sftp.remove(path)
            raise
        if not keep:
            await self._ssh.sftp.remove(path)
        return path

    async def _write(self, path: str, data: bytes, *, needed: int | None = None) -> None:
        attributes = asyncssh.SFTPAttrs(permissions=FILE_MODE)
        try:
            async with await self._ssh.sftp.open(path, "xb", attributes) as file:
                await file.write(data)
                await self._fsync(file)
        except asyncssh.SFTPFailure as err:
            await self._explain(path, len(data) if needed is None else needed, err)

    async def _explain(self, path: str, needed: int, err: asyncssh.SFTPFailure) -> NoReturn:
        """Find out what "failure" means, the only error of version 3 servers: name taken, or disk full."""
        with contextlib.suppress(asyncssh.SFTPOpUnsupported, asyncssh.SFTPNoSuchFile):
            space = await self._ssh.sftp.statvfs(self._root)
            if space.bavail * space.frsize < needed:
                raise NoSpace(self._url, "create", path, "no space left") from err
        if await self._ssh.sftp.exists(path):
            raise ObjectExists(self._url, "create", path, "the name is taken") from err
        raise err

    async def free_bytes(self) -> int | None:
        """How much more fits in; None if the server does not say."""
        with contextlib.suppress(asyncssh.SFTPOpUnsupported):
            space = await self._ssh.sftp.statvfs(self._root)
            return int(space.bavail * space.frsize)
        return None

    async def _fsync(self, file: asyncssh.SFTPClientFile) -> None:
        if self.durable is False:
            return
        try:
            await file.fsync()
            self.durable = True
        except asyncssh.SFTPOpUnsupported:
            logger.warning("%s cannot flush files; points are not durable there", self._url)
            self.durable = False

    async def create(self, path: str, data: bytes) -> None:
        """Create a file with ``data``: it is whole and flushed before it has its name.

        Raises:
            ObjectExists: the name is taken.
            NoSpace: the disk is full.
        """
        await self.make_folder(path.rsplit("/", 1)[0])
        await self.refuse_links(path.rsplit("/", 1)[0])
        temporary = await self.upload(data)
        try:
            try:
                await self._ssh.sftp.link(temporary, path)
            except (asyncssh.SFTPOpUnsupported, asyncssh.SFTPFailure, asyncssh.SFTPPermissionDenied):
                # The name is taken, or there are no hard links: version 3 has one error for both.
                await self._reserve(temporary, path, data)
        finally:
            with contextlib.suppress(asyncssh.SFTPError):
                await self._ssh.sftp.remove(temporary)

    async def _reserve(self, temporary: str, path: str, data: bytes) -> None:
        """Name a complete file without links: it replaces an empty file that was created exclusively."""
        await self._remove_abandoned(temporary, path)
        await self._write(path, b"", needed=len(data))
        try:
            await self._ssh.sftp.posix_rename(temporary, path)
        except asyncssh.SFTPOpUnsupported:
            async with await self._ssh.sftp.open(path, "r+b") as file:
                await file.write(data)
                await self._fsync(file)

    async def _remove_abandoned(self, temporary: str, path: str) -> None:
        """Free a name that was reserved by a process that died."""
        try:
            left, ours = await self._ssh.sftp.lstat(path), await self._ssh.sftp.lstat(temporary)
        except asyncssh.SFTPNoSuchFile:
            return
        # Both times come from the server, so the clock of this machine does not matter.
        if left.size or (ours.mtime or 0) - (left.mtime or 0) < ABANDONED_SECONDS:
            return
        aside = f"{temporary}-left"
        await self._ssh.sftp.rename(path, aside)  # only one of several processes succeeds
        moved = await self._ssh.sftp.lstat(aside)
        await self._ssh.sftp.remove(aside)
        if moved.mtime != left.mtime:
            raise asyncssh.SFTPFileAlreadyExists("the name has just been reserved")

    async def flush(self, path: str) -> None:
        """Flush a file under its final name."""
        if self.durable is False:
            return
        async with await self._ssh.sftp.open(path, "r+b") as file:
            await self._fsync(file)
