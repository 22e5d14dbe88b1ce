"""Changes of files: bytes, numbers in text, values in JSON, and what lies compressed within."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

PNG = b"\x89PNG\r\n\x1a\n"
Mutation = Callable[[bytes, random.Random], bytes]
Files = dict[str, bytes]
"""The files of one input: name relative to its folder, and content."""

NUMBER = re.compile(rb"-?\d+(\.\d+)?([eE][+-]?\d+)?")
NUMBERS = [
    *(b"0", b"-1", b"1", b"2", b"255", b"256", b"32768", b"65536", b"2147483647", b"2147483648", b"-2147483648"),
    *(b"4294967296", b"9223372036854775807", b"9223372036854775808", b"1e308", b"-1e308", b"1e-308", b"1e999", b"nan"),
    *(
        b"inf",
        b"-inf",
        b"NaN",
        b"Infinity",
        b"0.5",
        b"",
        b"9" * 30,
        b"9" * 5000,
        b"0x1f",
        b"1_0",
        b"\xc2\xb2",
        b"None",
    ),
]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 255, 256, 2**31, -(2**31), 2**63, 2**64, 10**30, 10**400),
    *(0.5, -0.5, 1e308, -1e308, 1e-308, float("nan"), float("inf"), float("-inf")),
    *("", "x", "0", "1", "-1", "²", "nan", "x" * 5000, "\0", "\u202e", "\ud800"),
    *("../x", "/etc/passwd", "con", "a/b", "=1+1", "<b>"),
    *([], {}, [[]], [None], [0], [1, 2, 3], {"": 0}, {"x": []}),
]
FIELDS = [
    *(("<h", value) for value in (-1, 0, 1, -32768, 32767)),
    *(("<i", value) for value in (-1, 0, 1, -(2**31), 2**31 - 1, 348, 540)),
    *((">i", value) for value in (-1, 2**31 - 1)),
    *(("<q", value) for value in (-1, 2**63 - 1, 2**40)),
    *(("<f", value) for value in (float("nan"), float("inf"), -1.0, 0.0, 1e38, 1e-38, 352.5)),
    *(("<d", value) for value in (float("nan"), float("inf"), 1e308, 0.0)),
]


def mutate(files: Files, generator: random.Random) -> Files:
    """The files with one to four changes in one of them; which are made depends on the generator alone."""
    name = generator.choice(sorted(files))
    content = files[name]
    for _ in range(generator.choice((1, 1, 1, 2, 3, 4))):
        content = _choose(content, generator)(content, generator)
    return {**files, name: content}


def _choose(content: bytes, generator: random.Random, *, nested: bool = False) -> Mutation:
    """A change that suits the content: those of its structure are more frequent."""
    kinds: list[Mutation] = [*BYTES]
    for begin, change, times in WITHIN:
        if content.startswith(begin) and not (nested and change is _within_zip):
            kinds += [change] * times
    if b"MET_" in content[:2000]:
        kinds += [_within_zlib] * 6
    if NUMBER.search(content[:2000]):
        kinds += [_replace_number] * 6
    return generator.choice(kinds)


def _flip(content: bytes, generator: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 8)) if content else 0):
        changed[_place(content, generator)] ^= 1 << generator.randrange(8)
    return bytes(changed)


def _overwrite(content: bytes, generator: random.Random) -> bytes:
    at = _place(content, generator)
    return content[:at] + generator.randbytes(generator.choice((1, 2, 4, 16))) + content[at + 1 :]


def _field(content: bytes, generator: random.Random) -> bytes:
    form, value = generator.choice(FIELDS)
    data, at = struct.pack(form, value), _place(content, generator)
    if generator.random() < 0.7:
        at -= at % len(data)
    return content[:at] + data + content[at + len(data) :]


def _truncate(content: bytes, generator: random.Random) -> bytes:
    return content[: _place(content, generator)]


def _delete(content: bytes, generator: random.Random) -> bytes:
    at = _place(content, generator)
    return content[:at] + content[at + generator.choice((1, 4, 16, 100)) :]


def _repeat(content: bytes, generator: random.Random) -> bytes:
    at, length = _place(content, generator), generator.choice((1, 4, 32, 500))
    return content[:at] + content[at : at + length] * generator.choice((2, 3, 50)) + content[at + length :]


def _insert(content: bytes, generator: random.Random) -> bytes:
    at = _place(content, generator)
    return content[:at] + generator.choice(INSERTED) + content[at:]


def _swap_lines(content: bytes, generator: random.Random) -> bytes:
    lines = content.split(b"\n")
    first, second = generator.randrange(len(lines)), generator.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    if generator.random() < 0.3:
        lines.insert(first, lines[second])
    return b"\n".join(lines)


def _replace_number(content: bytes, generator: random.Random) -> bytes:
    """Replace a number that is written as text, mostly one in the first lines."""
    found = list(NUMBER.finditer(content[: generator.choice((200, 2000, 20000))]))
    if not found:
        return content
    number = generator.choice(found)
    return content[: number.start()] + generator.choice(NUMBERS) + content[number.end() :]


def _within_gzip(content: bytes, generator: random.Random) -> bytes:
    """Change what is compressed, and compress it again with a valid checksum."""
    try:
        inner = gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return content
    return gzip.compress(_changed_bytes(inner, generator), 1, mtime=0)


def _within_zlib(content: bytes, generator: random.Random) -> bytes:
    """Change what is compressed behind a header, such as that of MetaImage."""
    at = content.find(b"\x78", max(0, content.rfind(b"\n", 0, 2000)))
    try:
        inner = zlib.decompress(content[at:])
    except zlib.error:
        return content
    return content[:at] + zlib.compress(_changed_bytes(inner, generator), 1)


def _within_png(content: bytes, generator: random.Random) -> bytes:
    """Change the content of a chunk, whose checksum is made right again."""
    chunks, at = [], len(PNG)
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return content
    place = generator.randrange(len(chunks))
    kind, data = chunks[place]
    if kind == b"IDAT" and generator.random() < 0.5:
        data = _within_zlib(data, generator)
    else:
        data = _changed_bytes(data, generator)
    chunks[place] = generator.choice((kind, kind, kind, b"tRNS", b"PLTE", b"acTL", b"IHDR")), data
    parts = [len(d).to_bytes(4, "big") + k + d + zlib.crc32(k + d).to_bytes(4, "big") for k, d in chunks]
    return content[: len(PNG)] + b"".join(parts)


def _within_zip(content: bytes, generator: random.Random) -> bytes:
    """Change a member of an archive, whose checksum is made right again."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, zlib.error, NotImplementedError, RuntimeError):
        return content
    if not members:
        return content
    name = generator.choice(sorted(members))
    members[name] = _choose(members[name], generator, nested=True)(members[name], generator)
    with io.BytesIO() as stream:
        with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
            warnings.simplefilter("ignore")
            for member, inner in members.items():
                archive.writestr(zipfile.ZipInfo(member), inner)
        return stream.getvalue()


def _changed_bytes(content: bytes, generator: random.Random) -> bytes:
    return generator.choice(BYTES)(content, generator)


def _change_json(content: bytes, generator: random.Random) -> bytes:
    """Replace, remove, add or nest a value."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return content
    places = list(_places(value))
    if not places:
        return content
    holder, key = generator.choice(places)
    action = generator.random()
    if action < 0.6:
        holder[key] = generator.choice(VALUES)
    elif action < 0.75:
        del holder[key]
    elif action < 0.85:
        holder[key] = [holder[key]] if generator.random() < 0.5 else {"x": holder[key]}
    elif action < 0.95:
        other, place = generator.choice(places)
        holder[key] = other.get(place) if isinstance(other, dict) else other[place]
    else:
        return json.dumps(value).replace(json.dumps(holder[key]), DEEP, 1).encode("utf-8", "surrogatepass")
    try:
        return json.dumps(value).encode()
    except (ValueError, RecursionError):  # a value within itself, or an integer of 400 digits
        return content


def _places(value: Any) -> Any:
    """Every container of a JSON value with each of its keys."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(inner):
        yield value, key
        yield from _places(child)


def _place(content: bytes, generator: random.Random) -> int:
    """A position, in the first bytes more often than behind."""
    length = max(1, len(content))
    return generator.randrange(min(length, generator.choice((16, 128, 400, length, length))))


BYTES = [_flip, _overwrite, _field, _truncate, _delete, _repeat, _insert, _swap_lines]
WITHIN: list[tuple[bytes, Mutation, int]] = [
    (b"{", _change_json, 16),
    (b"[", _change_json, 16),
    (b"\x1f\x8b", _within_gzip, 10),
    (PNG, _within_png, 10),
    (b"PK", _within_zip, 10),
]
DEEP = "[" * 50_000
INSERTED = [
    b"\0",
    b"\n",
    b"\n\n",
    b"\xff" * 8,
    bytes(64),
    b"../",
    b"%d",
    b" " * 2000,
    b"x" * 1500,
    b"[" * 3000,
    b"\xef\xbb\xbf",
    b'"',
    b"-",
]
