"""Small files for the demo, drawn and written here: a photo, a voice note, a PDF."""

import base64
import random
import struct
import zlib
from typing import Any

_WIDTH, _HEIGHT = 240, 180
_FRAMES_A_SECOND, _FRAME_SAMPLES = 50, 960  # Opus: 20 ms at 48 kHz
_SILENCE = b"\xf8\xff\xfe"
_OGG_POLYNOMIAL = 0x04C11DB7


def told(data: bytes, mime: str, **more: Any) -> dict[str, Any]:
    """A file as ``/control`` takes it."""
    return {"content_base64": base64.b64encode(data).decode("ascii"), "mime": mime, **more}


def photo(chance: random.Random) -> bytes:
    """A PNG: some skin with a mark on it, another one each time."""
    red, green, blue = chance.choice(((226, 178, 150), (190, 134, 102), (140, 92, 66), (240, 200, 178)))
    x0, y0, size = chance.randint(70, 170), chance.randint(60, 120), chance.randint(14, 30)
    rows = bytearray()
    for y in range(_HEIGHT):
        rows.append(0)  # no filter
        for x in range(_WIDTH):
            light = (x + y) // 14 - 14
            distance = ((x - x0) ** 2 + 1.6 * (y - y0) ** 2) / size**2
            mark = int(70 * max(0.0, 1 - distance * distance))
            rows += bytes(max(0, min(255, part)) for part in (red + light - mark // 2, green + light - mark,
                                                              blue + light - mark))  # fmt: skip
    header = struct.pack(">IIBBBBB", _WIDTH, _HEIGHT, 8, 2, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows), 9)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def voice(seconds: int) -> bytes:
    """Silence as Opus in Ogg, which every player takes; a page a second."""
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 0, 48000, 0, 0)
    tags = b"OpusTags" + struct.pack("<I", 8) + b"Figueira" + struct.pack("<I", 0)
    pages = [_page(0, 0, 2, (head,)), _page(1, 0, 0, (tags,))]
    for second in range(1, seconds + 1):
        samples, last = second * _FRAMES_A_SECOND * _FRAME_SAMPLES, 4 if second == seconds else 0
        pages.append(_page(second + 1, samples, last, (_SILENCE,) * _FRAMES_A_SECOND))
    return b"".join(pages)


def _page(number: int, samples: int, flags: int, packets: tuple[bytes, ...]) -> bytes:
    lengths = bytes(len(packet) for packet in packets)
    start = struct.pack("<4sBBqII", b"OggS", 0, flags, samples, 1, number)
    end = bytes([len(lengths)]) + lengths + b"".join(packets)
    return start + struct.pack("<I", _ogg_sum(start + b"\0\0\0\0" + end)) + end


def _ogg_sum(page: bytes) -> int:
    total = 0
    for byte in page:
        total ^= byte << 24
        for _ in range(8):
            total = (total << 1) ^ (_OGG_POLYNOMIAL if total & 0x80000000 else 0)
            total &= 0xFFFFFFFF
    return total


def pdf(*lines: str) -> bytes:
    """One page with some lines of text."""
    words = " T* ".join(f"({_escaped(line)}) Tj" for line in lines)
    text = f"BT /F1 14 Tf 18 TL 40 250 Td {words} ET".encode("cp1252")
    bodies = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 420 297] /Contents 4 0 R"
            b" /Resources << /Font << /F1 5 0 R >> >> >>"
        ),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(text), text),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    )
    made, places = b"%PDF-1.4\n", []
    for number, body in enumerate(bodies, start=1):
        places.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(bodies) + 1
    return made + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
        % (size, table, size, len(made))
    )


def _escaped(line: str) -> str:
    return line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
