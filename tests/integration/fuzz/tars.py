"""Archives that nobody means well with: a case is a number, and the same number is the same bytes.

Headers are put together by hand, because every library refuses to write most of these.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import random

import zstandard

BLOCK = 512
#: Of what a case may hold in memory and on disk.
MAX_DATA = 64 << 10

#: What stands first in these is what people write; most entries are made of it.
NAMES = (
    b"a", b"b", b"d/", b"d/e", b"d/e/f", b"./d/./e", b"d//e", b"a/b", b"s/x", b"s/s/x", b"h", b"d/s/../x",
    b"../x", b"../../../x", b"/x", b"//x", b"/../x", b"d/../../x", b"..", b"../", b".", b"./", b"/", b"",
    b"...", b"d/..", b"d/../x", b".wh.a", b".wh.d", b"d/.wh.e", b"s/.wh.x", b".wh.", b".wh..", b".wh...",
    b"d/.wh..", b"d/.wh...", b".wh..wh..opq", b"d/.wh..wh..opq", b"s/.wh..wh..opq", b"../.wh..wh..opq",
    b".wh..wh.plnk/1.2", b".wh..wh.aufs", b"../.wh.canary", b"s/../.wh.canary", b"\xff\xfe", b"d/\x80",
    b"new\nline", b"n" * 100, b"n" * 255, b"p/" * 40 + b"x", b"canary/x", b"canary", b"s", b"s/canary/file",
    b"proc/self/root/x", b"dev/null", b"etc/passwd", b"\xc3\xa9", b"c:\\x", b"a b", b"-rf",
)  # fmt: skip
LINKS = (
    b"/", b"..", b"../..", b"../../../../..", b"/canary", b"../canary", b"/canary/file",
    b"../../canary/file", b"/proc/self/root", b"/proc/self/fd/3", b"s", b"a", b"d", b"./d", b".", b"",
    b"d/e", b"/d/e", b"h", b"x" * 100, b"\xff", b"nowhere", b"/dev/null", b".wh.a", b"//", b"d/../a",
)  # fmt: skip
KINDS = (
    b"0", b"0", b"0", b"\0", b"5", b"5", b"2", b"2", b"1", b"1", b"3", b"4", b"6", b"7", b"S", b"x", b"g",
    b"L", b"K", b"M", b"V", b"Z", b"9",
)  # fmt: skip

#: As records of extended headers; the values lie.
PAX = (
    (b"path", NAMES), (b"linkpath", LINKS),
    (b"size", (b"0", b"-1", b"5", b"99999999999999999999", b"x", b"", b"1e3", b"0x10", b"1024")),
    (b"uid", (b"0", b"-1", b"4294967295", b"4294967296", b"99999999999999999999", b"x")),
    (b"gid", (b"0", b"-5", b"4294967296", b"nan")),
    (b"mtime", (b"nan", b"inf", b"-1", b"1e30", b"1.5", b"x", b"99999999999999999999", b"1.999999999999")),
    (b"atime", (b"nan", b"-9223372036854775809", b"1")),
    (b"uname", (b"root", b"\xff")), (b"hdrcharset", (b"BINARY", b"x")), (b"charset", (b"\xff",)),
    (b"SCHILY.xattr.user.a", (b"v", b"\0\xff", b"v" * 5000)),
    (b"SCHILY.xattr.security.capability", (b"\1\0\0\2" + b"\xff" * 16, b"", b"short")),
    (b"SCHILY.xattr.trusted.overlay.opaque", (b"y",)), (b"SCHILY.xattr.trusted.overlay.redirect", (b"/etc",)),
    (b"SCHILY.xattr.trusted.overlay.metacopy", (b"",)), (b"SCHILY.xattr.", (b"v",)),
    (b"SCHILY.xattr.nonsense", (b"v",)), (b"SCHILY.xattr.user." + b"n" * 300, (b"v",)),
    (b"GNU.sparse.major", (b"1", b"0", b"x")), (b"GNU.sparse.minor", (b"0", b"1", b"")),
    (b"GNU.sparse.name", NAMES), (b"GNU.sparse.realsize", (b"0", b"-1", b"4096", b"9999999", b"x")),
    (b"GNU.sparse.size", (b"10", b"-1", b"x")), (b"GNU.sparse.numblocks", (b"1", b"-1", b"99999", b"x")),
    (b"GNU.sparse.map", (b"0,10", b"0,-1", b"10", b"5,5,0,9", b"x,y", b"0,99999999")),
    (b"GNU.sparse.offset", (b"0", b"x")), (b"GNU.sparse.numbytes", (b"1", b"x")),
    (b"comment", (b"x",)), (b"", (b"", b"x")), (b"a=b", (b"c",)),
)  # fmt: skip
NUMBERS = (0, 0, 1, 5, 511, 512, 513, 0o644, 0o4755, 0o7777, 1 << 20, (1 << 33) - 1)
#: As they stand in a header field: base 256, octal, and neither.
FIELDS = (
    b"\x80" + b"\xff" * 11, b"\xff" * 12, b"\x80" + b"\0" * 10 + b"\5", b"\xff" + b"\0" * 11,
    b"777777777777", b"-0000000001\0", b"            ", b"\0" * 12, b"99999999999\0", b"0x0000000010",
    b"\x80\0\0\0\x7f" + b"\xff" * 7,
)  # fmt: skip


def _field(rng: random.Random, width: int, value: int) -> bytes:
    """A number in octal; now and then what is none."""
    if rng.random() < 0.008:
        return rng.choice(FIELDS)[:width].ljust(width, b"\0")
    return b"%0*o\0" % (width - 1, value & ((1 << 3 * (width - 1)) - 1))


def header(rng: random.Random, name: bytes, kind: bytes, size: int, link: bytes = b"") -> bytes:
    magic = rng.choice((b"ustar\x0000", b"ustar\x0000", b"ustar  \0", b"\0" * 8, b"ustar\x00xx"))
    parts = [
        name[:100].ljust(100, b"\0"),
        _field(rng, 8, rng.choice(NUMBERS)),
        _field(rng, 8, rng.choice((0, 0, 1000, 65534))),
        _field(rng, 8, rng.choice((0, 0, 1000, 65534))),
        _field(rng, 12, size),
        _field(rng, 12, rng.choice((0, 1_600_000_000))),
        b" " * 8,
        kind,
        link[:100].ljust(100, b"\0"),
        magic,
        rng.choice((b"root", b"\xff\xff", b"")).ljust(32, b"\0"),
        b"wheel".ljust(32, b"\0"),
        _field(rng, 8, rng.choice((0, 1, 7, 1 << 12))),
        _field(rng, 8, rng.choice((0, 3, 1 << 20))),
        rng.choice((b"", b"", b"", b"prefix", b"..", b"/x", b"\xff")).ljust(155, b"\0"),
        b"\0" * 12,
    ]
    return checked(b"".join(parts))


def checked(block: bytes) -> bytes:
    """*block* with the checksum that belongs to it."""
    blank = block[:148] + b" " * 8 + block[156:BLOCK]
    return block[:148] + b"%06o\0 " % sum(blank) + block[156:BLOCK]


def padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % BLOCK)


def record(key: bytes, value: bytes, rng: random.Random) -> bytes:
    """``<length> key=value\\n``; now and then the length is wrong."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while length != len(body) + len(b"%d" % length):
        length = len(body) + len(b"%d" % length)
    shown = b"%d" % length
    if rng.random() < 0.03:
        shown = rng.choice((b"0", b"-1", b"1", b"9" * 20, b"%d" % (length + 7), b"x", b""))
    return shown + body


def _extended(rng: random.Random) -> bytes:
    records = b""
    for _ in range(rng.randint(1, 3)):
        key, values = rng.choice(PAX)
        records += record(key, rng.choice(values), rng)
    return header(rng, b"././@PaxHeader", rng.choice((b"x", b"x", b"x", b"g")), len(records)) + padded(
        records
    )


def entry(rng: random.Random) -> bytes:
    """One header, with what stands before and behind it."""
    before = b""
    if rng.random() < 0.15:
        before = _extended(rng)
    if rng.random() < 0.06:
        text = rng.choice(NAMES + LINKS) * rng.choice((1, 1, 3)) + b"\0"
        before += header(rng, b"././@LongLink", rng.choice((b"L", b"K")), len(text)) + padded(text)
    mean = rng.random() < 0.4
    name, kind = rng.choice(NAMES if mean else NAMES[:9]), rng.choice(KINDS if mean else KINDS[:10])
    data = (
        rng.randbytes(rng.choice((0, 1, 10, 511, 512, 3000)))
        if kind not in b"12345" or rng.random() < 0.03
        else b""
    )
    size = len(data)
    if rng.random() < 0.03:
        size = rng.choice((1, 1 << 20, 1 << 32, (1 << 33) - 1, max(0, size - 1)))
    return before + header(rng, name, kind, size, rng.choice(LINKS)) + padded(data)


def entries(rng: random.Random) -> bytes:
    return b"".join(entry(rng) for _ in range(rng.randint(1, 9)))


def mutated(rng: random.Random, data: bytes) -> bytes:
    """*data* with something wrong; checksums of headers are often put right again."""
    block = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not block:
            break
        at = rng.randrange(len(block))
        start = at - at % BLOCK
        how = rng.randrange(6)
        if how == 0:
            block[at] = rng.randrange(256)
        elif how == 1:
            del block[at:]
        elif how == 2:
            block[start:start] = block[start : start + BLOCK]
        elif how == 3:
            del block[start : start + BLOCK]
        elif how == 4:
            block[at:at] = rng.randbytes(rng.randint(1, 600))
        else:
            block[start : start + BLOCK] = b"\0" * BLOCK
        if rng.random() < 0.7 and start + BLOCK <= len(block):
            block[start : start + BLOCK] = checked(bytes(block[start : start + BLOCK]))
    return bytes(block)


def compressed(rng: random.Random, data: bytes) -> bytes:
    """*data* compressed, and often spoiled."""
    how = rng.randrange(4)
    if rng.random() < 0.05:
        data += b"\0" * (8 << 20)  # 8 MiB in a few kilobytes
    if how == 0:
        packed = gzip.compress(data, 1)
    elif how == 1:
        packed = zstandard.compress(data, 1)
    elif how == 2:
        packed = bz2.compress(data, 1)
    else:
        packed = lzma.compress(data, preset=0)
    what = rng.randrange(7)
    if what == 0:
        packed = packed[: rng.randrange(len(packed))]
    elif what == 1:
        spoiled = bytearray(packed)
        spoiled[rng.randrange(len(packed))] ^= 1 << rng.randrange(8)
        packed = bytes(spoiled)
    elif what == 2:
        packed += rng.randbytes(20)
    elif what == 3:
        packed += packed
    return packed


def layer(number: int, seed: str) -> bytes:
    """The archive of case *number*."""
    rng = random.Random(f"{seed}:{number}")
    kind = rng.random()
    if kind < 0.02:
        return rng.randbytes(rng.randrange(3000))
    data = entries(rng)
    if rng.random() < 0.8:
        data += b"\0" * (2 * BLOCK)
    if kind > 0.6:
        data = mutated(rng, data)
    if kind > 0.85:
        data = compressed(rng, data)
    return data


__all__ = ["entries", "header", "layer", "mutated", "padded"]
