"""Objects in a bucket of S3 or a compatible service. The only module that uses obstore.

Create-if-absent is a PUT with ``If-None-Match: *``; ``hvps repo probe`` finds services that ignore it. An
answered PUT is durable, so the barrier has nothing to wait for. Each PUT contains the SHA-256 of its bytes,
which the server checks. Credentials come from where AWS tools take them (environment, instance), never from
the URL.

    s3://bucket/prefix?endpoint=https://minio.example.net:9000&region=eu-central-1
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn, Self, TypeVar
from urllib.parse import parse_qs, urlsplit

import obstore
from obstore import exceptions
from obstore.store import S3Store as Bucket

from hvpsbridge.errors import (
    ConfigurationError,
    NoSpace,
    ObjectExists,
    ObjectMissing,
    StoreError,
)
from hvpsbridge.repository.stores.base import ObjectInfo, Store, check_name
from hvpsbridge.repository.stores.retry import Unreachable, create_once, persist
from hvpsbridge.repository.stores.spool import SpoolSink

if TYPE_CHECKING:
    from obstore.store import RetryConfig

T = TypeVar("T")
# One request transfers at most a pack, which takes half a minute at 1 MB/s.
REQUEST_TIMEOUT = timedelta(seconds=180)
CONNECT_TIMEOUT = timedelta(seconds=10)
# obstore's own retries would hide that a PUT was done twice. Those of stores.retry do not.
NO_RETRIES: RetryConfig = {"max_retries": 0}
_OPTIONS = frozenset({"endpoint", "region"})
_STATUS = re.compile(r"\b(?:status|code)\D{0,12}(\d{3})\b", re.IGNORECASE)


class S3Store(Store):
    """A prefix of a bucket.

    Raises:
        ConfigurationError: the URL is not valid.
    """

    durable = True
    remote = True

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if not parts.hostname or options.keys() - _OPTIONS or parts.username or parts.password:
            raise ConfigurationError(
                f"{parts.scheme}://{parts.hostname or ''}", "write s3://bucket/prefix?endpoint=...&region=..."
            )
        endpoint = options.get("endpoint")
        if endpoint is not None and not _is_endpoint(endpoint):
            raise ConfigurationError(
                f"s3://{parts.hostname}", "endpoint is not a valid URL; write endpoint=https://host:port"
            )
        self.url = url
        self._prefix = parts.path.strip("/")
        self._bucket = Bucket(
            parts.hostname,
            prefix=self._prefix or None,
            config={
                "conditional_put": "etag",
                "checksum_algorithm": "SHA256",
                **({} if endpoint is None else {"endpoint": endpoint}),
                **({} if "region" not in options else {"region": options["region"]}),
            },
            client_options={
                "allow_http": endpoint is not None and endpoint.startswith("http://"),
                "timeout": REQUEST_TIMEOUT,
                "connect_timeout": CONNECT_TIMEOUT,
            },
            retry_config=NO_RETRIES,
        )

    @classmethod
    def from_url(cls, url: str, *, create: bool = False) -> Self:  # a bucket is never created
        return cls(url)

    def put(self, name: str, data: bytes) -> None:
        check_name(name)

        # Not multipart: only a single PUT can have the condition.
        def create() -> None:
            self._do(
                "create",
                name,
                lambda: obstore.put(self._bucket, name, data, mode="create", use_multipart=False),
            )

        create_once(create, lambda: self.get(name) == data)

    def sink(self, name: str) -> SpoolSink:
        return SpoolSink(self.url, check_name(name), self.put)

    def get(self, name: str) -> bytes:
        check_name(name)
        return persist(lambda: self._do("read", name, lambda: bytes(obstore.get(self._bucket, name).bytes())))

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        check_name(name)

        def fetch() -> bytes:
            data = bytes(obstore.get_range(self._bucket, name, start=offset, length=length))
            if len(data) != length:
                raise StoreError(self.url, "read", name, f"the object ends {length - len(data)} bytes early")
            return data

        return persist(lambda: self._do("read", name, fetch))

    def size(self, name: str) -> int:
        check_name(name)
        return persist(
            lambda: self._do("look up", name, lambda: int(obstore.head(self._bucket, name)["size"]))
        )

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        check_name(prefix)

        def fetch() -> list[ObjectInfo]:
            pages = obstore.list(self._bucket, prefix=prefix + "/")
            return [ObjectInfo(str(meta["path"]), int(meta["size"])) for page in pages for meta in page]

        yield from persist(lambda: self._do("list", prefix, fetch))

    def delete(self, name: str) -> None:
        check_name(name)
        try:
            persist(lambda: self._do("delete", name, lambda: obstore.delete(self._bucket, name)))
        except ObjectMissing:
            return

    def overwrite(self, name: str, data: bytes) -> None:
        """Overwrite an object, which no repository does; ``probe`` tests whether it is refused."""
        self._do("overwrite", name, lambda: obstore.put(self._bucket, name, data, use_multipart=False))

    def commit_barrier(self) -> None:
        """Does nothing: an answered PUT is durable."""

    def close(self) -> None:
        """Does nothing: connections are closed with the object."""

    def _do(self, action: str, name: str, work: Callable[[], T]) -> T:
        try:
            return work()
        except FileNotFoundError as err:
            if "NoSuchBucket" in str(err):
                raise StoreError(self.url, action, name, "no such bucket") from err
            raise ObjectMissing(self.url, action, name, "no such object") from err
        except exceptions.AlreadyExistsError as err:
            if "ConditionalRequestConflict" in str(err):
                # A 409: another request for the name is in progress, and may fail yet.
                raise Unreachable(
                    self.url, action, name, "another request for the name is in progress"
                ) from err
            raise ObjectExists(self.url, action, name, "the name is taken") from err
        except (exceptions.BaseError, OSError, ValueError) as err:
            self._fail(action, name, err)

    def _fail(self, action: str, name: str, err: Exception) -> NoReturn:
        reason = _reason(err)
        if isinstance(err, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            raise StoreError(self.url, action, name, f"permission denied: {reason}") from err
        if "NoSuchBucket" in str(err):
            raise StoreError(self.url, action, name, "no such bucket") from err
        if "RequestTimeout" in str(err):  # a 400: the server did not get the whole body in time
            raise Unreachable(self.url, action, name, reason) from err
        status = _STATUS.search(str(err))
        if status is not None and status[1] == "507":
            raise NoSpace(self.url, action, name, reason) from err
        if status is not None and status[1].startswith("4") and status[1] not in ("408", "409", "425", "429"):
            raise StoreError(self.url, action, name, reason) from err
        raise Unreachable(self.url, action, name, reason) from err


def _is_endpoint(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _reason(err: Exception) -> str:
    """The first line of an obstore error; the rest is a debug dump."""
    return str(err).strip().split("\n", 1)[0][:300] or type(err).__name__
