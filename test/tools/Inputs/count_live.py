"""Decodes a PNG that `heddle show` wrote and compares its live pixels with a predicate on (i, j)."""

import pathlib
import struct
import sys
import zlib

path, n, predicate = sys.argv[1], int(sys.argv[2]), sys.argv[3]
data = pathlib.Path(path).read_bytes()
assert data[:8] == b"\x89PNG\r\n\x1a\n"
at, packed, width, height = 8, b"", 0, 0
while at < len(data):
    size, kind = struct.unpack(">I4s", data[at : at + 8])
    body = data[at + 8 : at + 8 + size]
    assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + body)
    if kind == b"IHDR":
        width, height = struct.unpack(">II", body[:8])
    if kind == b"IDAT":
        packed += body
    at += 12 + size
assert (width, height) == (n, n), (width, height)
rows = zlib.decompress(packed)
live = compile(predicate, "predicate", "eval")
for i in range(n):
    row = rows[i * (3 * n + 1) + 1 : (i + 1) * (3 * n + 1)]
    for j in range(n):
        # Dead pairs are white or a light tint, live ones are dark.
        dark = min(row[3 * j : 3 * j + 3]) < 200
        assert dark == bool(eval(live, {"i": i, "j": j, "abs": abs})), (i, j, row[3 * j : 3 * j + 3])
