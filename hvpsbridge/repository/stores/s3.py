"""Objects in a bucket of S3 or a compatible service. The only module that uses obstore.

Create-if-absent is a PUT with ``If-None-Match: *``; ``hvps repo probe`` finds services that ignore it. An
answered PUT is durable, so the barrier has nothing to wait for. Each PUT contains the SHA-256 of its bytes,
which the server checks. Credentials come from where AWS tools take them (environment, instance), never from
the URL.

    s3://bucket/prefix?endpoint=https://minio.example.net:9000&region=eu-central-1
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn, Self, TypeVar
from urllib.parse import urlsplit

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
from hvpsbridge.repository.stores import s3_listing
from hvpsbridge.repository.stores.base import CONTENT_NAMES, MAX_OBJECT_BYTES, ObjectInfo, Store, check_name
from hvpsbridge.repository.stores.retry import Unreachable, create_once, persist
from hvpsbridge.repository.stores.spool import SpoolSink
from hvpsbridge.repository.stores.urls import EXAMPLES, options_of
from hvpsbridge.text import MAX_REASON, without_users

if TYPE_CHECKING:
    from obstore.store import RetryConfig, S3Config

T = TypeVar("T")
# One request transfers at most a pack, which takes half a minute at 1 MB/s.
REQUEST_TIMEOUT = timedelta(seconds=180)
LISTING_VALID = timedelta(minutes=15)
CONNECT_TIMEOUT = timedelta(seconds=10)
# obstore's own retries would hide that a PUT was done twice. Those of stores.retry do not.
NO_RETRIES: RetryConfig = {"max_retries": 0}
_OPTIONS = frozenset({"endpoint", "region"})
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{0,61}[a-z0-9]")
_STATUS = re.compile(r"\b(?:status|code)\D{0,12}(\d{3})\b", re.IGNORECASE)

# What is in the dumps of obstore, and what to do about it. The first end the request: trying again is no use.
_FINAL = (
    (
        re.compile(r"UnknownIssuer|CaUsedAsEndEntity|SelfSigned"),
        "the certificate of the server is not from a known CA; name the CA's PEM file with SSL_CERT_FILE",
    ),
    (
        re.compile(r"NotValidForName"),
        "the certificate of the server is for another name; use that name in endpoint",
    ),
    (re.compile(r"InvalidCertificate\(\s*Expired"), "the certificate of the server has expired; renew it"),
    (
        re.compile(r"InvalidCertificate\(\s*NotValidYet"),
        "the certificate of the server is not valid yet; check the clocks",
    ),
    (re.compile(r"InvalidCertificate"), "the certificate of the server cannot be used; replace it"),
    (re.compile(r"InvalidContentType"), "the server answers without TLS; write endpoint=http://HOST:PORT"),
    (
        re.compile(r"incorrectly configured region|AuthorizationHeaderMalformed|PermanentRedirect"),
        "the bucket is in another region; add region=REGION to the URL",
    ),
)
_PASSING = (
    (
        re.compile(r"169\.254\.169\.254"),
        "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    (re.compile(r"dns error"), "the name of the server cannot be resolved; check endpoint and DNS"),
    (re.compile(r"ConnectionRefused"), "the server refuses connections; check endpoint and whether it runs"),
    (
        re.compile(r"ConnectionReset"),
        "the server closed the connection; if it uses TLS, write endpoint=https://",
    ),
)


class S3Store(Store):
    """A prefix of a bucket.

    Raises:
        ConfigurationError: the URL is not valid.
    """

    durable = True
    remote = True

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        options = options_of(parts, _OPTIONS)
        bucket, prefix = parts.netloc, parts.path.strip("/")
        if problem := _problem(bucket, prefix, options.get("endpoint")):
            raise ConfigurationError(f"s3://{bucket}", problem)
        endpoint = options.get("endpoint")
        self.url = url
        self._prefix = prefix
        service = endpoint or os.environ.get("AWS_ENDPOINT_URL", "")
        self._place = f"s3:{service.rstrip('/')}|{bucket}|{prefix}"
        self._name = bucket
        self._region: S3Config = {} if "region" not in options else {"region": options["region"]}
        self._bucket = Bucket(
            bucket,
            prefix=self._prefix or None,
            config={
                "conditional_put": "etag",
                "checksum_algorithm": "SHA256",
                **({} if endpoint is None else {"endpoint": endpoint}),
                **self._region,
            },
            client_options={
                "allow_http": endpoint is not None and endpoint.startswith("http://"),
                "timeout": REQUEST_TIMEOUT,
                "connect_timeout": CONNECT_TIMEOUT,
            },
            retry_config=NO_RETRIES,
        )
        # Whether somebody made an object whose name obstore does not take.
        self._has_odd_names = False

    @classmethod
    def from_url(cls, url: str, *, create: bool = False) -> Self:  # a bucket is never created
        return cls(url)

    @property
    def place(self) -> str:
        return self._place

    def put(self, name: str, data: bytes) -> None:
        check_name(name)

        # Not multipart: only a single PUT can have the condition.
        def create() -> None:
            stored = self._do(
                "create",
                name,
                lambda: obstore.put(self._bucket, name, data, mode="create", use_multipart=False),
            )
            # Only a bucket with versions names one ("null" while they are suspended).
            self.keeps_versions |= stored["version"] not in (None, "null")

        create_once(create, lambda: self.get(name, len(data)) == data)

    def sink(self, name: str) -> SpoolSink:
        return SpoolSink(self.url, check_name(name), self.put)

    def get(self, name: str, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        check_name(name)

        def fetch() -> bytes:
            found = obstore.get(self._bucket, name)  # has only read the headers
            self.check_size(name, int(found.meta["size"]), max_bytes)
            return bytes(found.bytes())

        return persist(lambda: self._do("read", name, fetch))

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        check_name(name)

        def fetch() -> bytes:
            data = bytes(obstore.get_range(self._bucket, name, start=offset, length=length))
            return self.whole_range(name, data, length)

        return persist(lambda: self._do("read", name, fetch))

    def size(self, name: str) -> int:
        check_name(name)
        return persist(
            lambda: self._do("look up", name, lambda: int(obstore.head(self._bucket, name)["size"]))
        )

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        check_name(prefix)

        def fetch() -> Sequence[ObjectInfo]:
            if not self._has_odd_names:
                try:
                    pages = obstore.list(self._bucket, prefix=prefix + "/")
                    return [
                        ObjectInfo(
                            str(meta["path"]), int(meta["size"]), f"{meta['e_tag']} {meta['last_modified']}"
                        )
                        for page in pages
                        for meta in page
                    ]
                except exceptions.BaseError as err:
                    if not _has_odd_name(err):
                        raise
                    self._has_odd_names = True
            return [info for page in self._pages(prefix + "/") for info in page]

        yield from persist(lambda: self._do("list", prefix, fetch))

    def content(self) -> frozenset[str]:
        def fetch() -> frozenset[str]:
            try:
                page = next(iter(obstore.list(self._bucket, chunk_size=CONTENT_NAMES)), ())
                names = [str(meta["path"]) for meta in page]
            except exceptions.BaseError as err:
                if not _has_odd_name(err):
                    raise
                names = [info.name for info in next(self._pages(""), ())]
            return frozenset(name.partition("/")[0] for name in names)

        return persist(lambda: self._do("list", self._prefix or "all", fetch))

    def _pages(self, start: str) -> Iterator[Sequence[ObjectInfo]]:
        """Objects whose names begin with ``start``, in pages, whatever their names are."""
        root = f"{self._prefix}/" if self._prefix else ""
        for page in s3_listing.pages(root + start, self._signed, REQUEST_TIMEOUT.total_seconds()):
            yield [ObjectInfo(name.removeprefix(root), size) for name, size in page.names]

    def _signed(self, query: str) -> str:
        """The URL of a GET of the bucket itself with a query."""
        # obstore signs URLs of objects only. The part of the query that the name of an object becomes is one
        # with which clients say what they are doing, and which servers ignore.
        object_url = obstore.sign(self._bucket, "GET", "x", LISTING_VALID).partition("?")[0]
        parts = self._prefix.count("/") + 2 if self._prefix else 1
        bucket_url = object_url.rsplit("/", parts)[0]
        slash = "" if urlsplit(bucket_url).path else "/"
        bucket = Bucket(
            self._name,
            config={
                "endpoint": f"{bucket_url}{slash}?{query}&x-id=",
                "virtual_hosted_style_request": True,
                **self._region,
            },
            client_options={"allow_http": bucket_url.startswith("http://")},
        )
        return obstore.sign(bucket, "GET", "ListObjectsV2", LISTING_VALID)

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
        if any(cause.search(str(err)) for cause, _ in _FINAL):
            raise StoreError(self.url, action, name, reason) from err
        if "RequestTimeout" in str(err):  # a 400: the server did not get the whole body in time
            raise Unreachable(self.url, action, name, reason) from err
        status = _STATUS.search(str(err))
        if status is not None and status[1] == "507":
            raise NoSpace(self.url, action, name, reason) from err
        if status is not None and status[1].startswith("4") and status[1] not in ("408", "409", "425", "429"):
            raise StoreError(self.url, action, name, reason) from err
        raise Unreachable(self.url, action, name, reason) from err


def _has_odd_name(err: exceptions.BaseError) -> bool:
    """Whether a listing failed because obstore does not take one of its names."""
    return isinstance(err, exceptions.InvalidPathError) or "invalid list response" in str(err)


def _problem(bucket: str, prefix: str, endpoint: str | None) -> str | None:
    """What is wrong with the parts of a URL, with what to write instead; None if nothing is."""
    if ":" in bucket:
        return "a bucket has no port; the server belongs in endpoint=https://HOST:PORT"
    if bucket != bucket.lower():
        return "names of buckets are in lower case"
    if not _BUCKET.fullmatch(bucket):
        return f"the bucket must be a valid name; write {EXAMPLES['s3']}"
    for part in prefix.split("/") if prefix else ():
        if not part:
            return "the prefix has two slashes in a row; write one"
        if part in (".", ".."):
            return f"the prefix must not contain {part}"
        if part != part.strip():
            return "a part of the prefix begins or ends with a blank; remove it"
        if "%" in part:
            return "the prefix must not contain %; it is used as it is, so write the character itself"
    return None if endpoint is None else _endpoint_problem(endpoint, bucket)


def _endpoint_problem(endpoint: str, bucket: str) -> str | None:
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        return "endpoint is not a valid URL; write endpoint=https://HOST:PORT"
    if parts.query or parts.fragment:
        return "the endpoint has a query; write endpoint=https://HOST:PORT"
    if bucket in parts.path.split("/") or (parts.hostname or "").startswith(f"{bucket}."):
        return "the endpoint must not contain the bucket; write endpoint=https://HOST:PORT"
    return None


def _reason(err: Exception) -> str:
    """The cause in an obstore error, which is in its debug dump; else the first line."""
    text = str(err)
    for cause, reason in (*_FINAL, *_PASSING):
        if cause.search(text):
            return reason
    return without_users(text.strip().split("\n", 1)[0])[:MAX_REASON] or type(err).__name__
