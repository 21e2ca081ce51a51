"""Databases and logs as etcd lays them out, a few pages and records of them."""

from __future__ import annotations

import struct
from collections.abc import Mapping

PAGE = 4096
Buckets = Mapping[str, Mapping[str, bytes]]


def database(
    buckets: Buckets | None = None, transaction: int = 1, root: int = 3, size: int = 4 * PAGE
) -> bytes:
    """A database with these buckets, each small enough to lie in the root page; without any as bolt makes it."""
    older = _meta(transaction - 1, 3)
    newer = _meta(transaction, root)
    pages = [older, newer] if transaction % 2 else [newer, older]
    pages += [_page(2, 0x10, [])] * (root - 2)
    found = [(1, name.encode(), _bucket(keys)) for name, keys in sorted((buckets or {}).items())]
    pages.append(_page(root, 2, found))
    return b"".join(page.ljust(PAGE, b"\0") for page in pages).ljust(size, b"\0")


def _meta(transaction: int, root: int) -> bytes:
    body = struct.pack("<4I6Q", 0xED0CDAED, 2, PAGE, 0, root, 0, 2, root + 1, transaction, 0)[:-8]
    sum_ = 0xCBF29CE484222325
    for byte in body:
        sum_ = (sum_ ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return struct.pack("<QHHI", transaction % 2, 4, 0, 0) + body + struct.pack("<Q", sum_)


def _bucket(keys: Mapping[str, bytes]) -> bytes:
    return struct.pack("<QQ", 0, 0) + _page(0, 2, [(0, key.encode(), value) for key, value in keys.items()])


def _page(number: int, flags: int, elements: list[tuple[int, bytes, bytes]]) -> bytes:
    heads, bodies = b"", b""
    for at, (kind, key, value) in enumerate(elements):
        offset = 16 * (len(elements) - at) + len(bodies)
        heads += struct.pack("<4I", kind, offset, len(key), len(value))
        bodies += key + value
    return struct.pack("<QHHI", number, flags, len(elements), 0) + heads + bodies


def log(*kinds: int, size: int = 4096) -> bytes:
    """The first segment of a log with records of these kinds: 4 is a sum, 1 metadata, 5 a snapshot, 2 an entry."""
    records = b""
    for kind in kinds:
        record = bytes((8, kind, 16, 0))
        records += struct.pack("<Q", 0x84 << 56 | len(record)) + record.ljust(8, b"\0")
    return records.ljust(size, b"\0")
