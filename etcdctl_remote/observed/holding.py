"""What a data directory holds: a member, nothing, or a first start that was cut off. Pure, but for the shell that looks.

etcd makes its database first and its log second; entries and votes come into the log later still. So
whoever was cut off in a first start leaves a database with empty buckets, or a log with nothing behind
its head: nothing was acknowledged there, and no vote given. Seen with 3.4.23, 3.5.33, 3.6.14 and 3.7.1,
from each instant: with no log etcd comes up again; with a bare head it waits for a leader, which comes
only if a quorum of others knows it (it takes its own membership from the log), and from a database
without its four first pages it ends, at each start anew.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence

from .state import Data

HOLDS = r"""
holds() {
  seen=$(ls -A -- "$1" 2>&1) || {
    case $seen in *"No such file"*) echo absent ;; *) echo unknown ;; esac
    return
  }
  if printf '%s\n' "$seen" |
    grep -qvx -e '' -e "$2" -e lost+found -e wal.tmp -e '[.]touch' -e 'moved-aside[.].*'; then echo other
  else echo empty; fi
}
unread() { case $2 in *"No such file"*) ;; *) echo "unread $1" ;; esac; }
data_holds() {
  log=${wal:-$data/member}/wal db=$data/member/snap/db first=0000000000000000-0000000000000000.wal
  holds "$data" member; [ -z "$wal" ] || holds "$wal" wal
  for within in "$data/member" "$data/member/snap" "$log"; do
    seen=$(ls -A -- "$within" 2>&1 >/dev/null) || unread "$within" "$seen"
  done
  size=$(stat -c %s -- "$db" 2>&1) || { unread "$db" "$size"; size=; }
  known=
  case $(ls -- "$log" 2>/dev/null | grep '[.]wal$') in
    '') ;;
    "$first") if [ "$(head -c 4096 -- "$log/$first" | tail -c +257 | tr -d '\0' | wc -c)" = 0 ]; then
        echo "log $(head -c 256 -- "$log/$first" | base64 -w0)"
      else known=yes; fi ;;
    *) known=yes ;;
  esac
  [ -z "$known" ] || echo "log -"
  [ -n "$size" ] || return 0
  [ -n "$known" ] || seen=$(head -c 32768 -- "$db" 2>&1 >/dev/null) || unread "$db" "$seen"
  echo "db $size $([ -n "$known" ] || head -c 32768 -- "$db" 2>/dev/null | base64 -w0)"
}
"""
"""Shell functions: what `$data`, and `$wal` if it is set, hold, for `holding` to judge. The bytes go
along only where there is no log, or hardly one. What cannot be read is unknown, never empty."""

_HEAD = 32768
"""Bytes of a database that are looked at: with pages of 4 KiB what is empty lies in the first six. On a
host with bigger pages a first start that was cut off is not known for one, and refused."""

_FIRST_PAGES = 16384
_MAGIC, _VERSION = 0xED0CDAED, 2
_LEAF, _BUCKET = 2, 1
_HARMLESS = {(b"auth", b"authRevision")}
"""What etcd puts into its database before anything is in its log."""


def holding(lines: Sequence[str]) -> tuple[Data, Data]:
    """Say what the data directory and the log's own directory hold; the latter is absent if there is none."""
    places = [_word(line) for line in lines if " " not in line] or [Data.UNKNOWN]
    said = dict(line.split(" ", 1) for line in lines if " " in line)
    separate = len(places) > 1
    if "unread" in said:
        return Data.UNKNOWN, Data.UNKNOWN if separate else Data.ABSENT
    what = _member(said)
    if what is None or (what is Data.MEMBER and separate and "db" not in said):
        data = places[0]
    elif what in (Data.BEGUN, Data.STUCK) and Data.OTHER in places:
        data = Data.OTHER
    else:
        data = what
    if not separate:
        return data, Data.ABSENT
    return data, what if "log" in said and what in (Data.MEMBER, Data.STUCK) else places[1]


def _word(word: str) -> Data:
    return Data(word) if word in set(Data) else Data.UNKNOWN


def _member(said: Mapping[str, str]) -> Data | None:
    """Judge the log and the database together; None if there is neither."""
    size, _, head = said.get("db", "").partition(" ")
    database = _database(int(size), _bytes(head)) if size.isdecimal() else None
    if "log" in said:
        bare = bare_log(_bytes(said["log"])) and database is not Data.TORN
        return Data.STUCK if bare else Data.MEMBER
    return database


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def bare_log(segment: bytes) -> bool:
    """Whether a log's first segment has a head (sum, metadata, empty snapshot), and no record after it."""
    kinds: list[int] = []
    at = 0
    while at + 8 <= len(segment):
        (length,) = struct.unpack_from("<q", segment, at)
        if length == 0:
            return kinds == [4, 1, 5]
        padding = length >> 56 & 7 if length < 0 else 0
        record = segment[at + 8 : at + 8 + (length & (1 << 56) - 1)]
        kinds.append(record[1] if record[:1] == b"\x08" else 0)
        at += 8 + len(record) + padding
    return False


def _database(size: int, head: bytes) -> Data | None:
    """Judge a database without a log: nothing yet, begun, not even that, or with something in it."""
    if size == 0:
        return None
    if len(head) != min(size, _HEAD):
        return Data.TORN
    newest = max((meta for at in (0, 4096) if (meta := _meta(head[at:]))), default=None)
    if newest is None:
        return Data.STUCK if size <= _FIRST_PAGES and not any(head) else Data.TORN
    transaction, page_size, root = newest
    page = head[root * page_size :]
    if not page and transaction <= 1 and size < _FIRST_PAGES:
        return Data.STUCK
    try:
        return Data.BEGUN if _empty_buckets(page) else Data.TORN
    except struct.error:
        return Data.TORN


def _meta(page: bytes) -> tuple[int, int, int] | None:
    """Read a meta page: the transaction it belongs to, the size of pages, and where the root is."""
    if len(page) < 80:
        return None
    magic, version, size, _, root, _, _, _, transaction, sum_ = struct.unpack_from("<4I6Q", page, 16)
    known = (magic, version) == (_MAGIC, _VERSION) and sum_ == _fnv(page[16:72])
    return (transaction, size, root) if known else None


def _fnv(data: bytes) -> int:
    """Sum as bolt does: FNV-1a of 64 bits."""
    sum_ = 0xCBF29CE484222325
    for byte in data:
        sum_ = (sum_ ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return sum_


def _empty_buckets(root: bytes) -> bool:
    """Whether the root page has only buckets, each so small that it lies in there, and nothing in any."""
    return _is_leaf(root) and all(
        flags & _BUCKET
        and struct.unpack_from("<Q", value)[0] == 0
        and _is_leaf(value[16:])
        and all((name, key) in _HARMLESS for key, _, _ in _elements(value[16:]))
        for name, value, flags in _elements(root)
    )


def _is_leaf(page: bytes) -> bool:
    flags: int = struct.unpack_from("<H", page, 8)[0]
    return flags == _LEAF


def _elements(page: bytes) -> list[tuple[bytes, bytes, int]]:
    """List key, value and flags of a leaf page's elements."""
    (count,) = struct.unpack_from("<H", page, 10)
    found = []
    for at in range(16, 16 + 16 * count, 16):
        flags, offset, key, value = struct.unpack_from("<4I", page, at)
        start = at + offset
        found.append((page[start : start + key], page[start + key : start + key + value], flags))
    return found
