"""The demo's files are what they say they are."""

import random
import struct
import zlib

import pytest

from deploy.sandbox import keepsakes, patients


def test_a_photo_is_a_whole_png() -> None:
    data = keepsakes.photo(random.Random(1))
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(data) < 20_000
    place, pixels = 8, b""
    names = []
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        name, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        assert struct.unpack_from(">I", data, place + 8 + length) == (zlib.crc32(name + body),)
        names.append(name)
        pixels += body if name == b"IDAT" else b""
        place += 12 + length
    assert names == [b"IHDR", b"IDAT", b"IEND"]
    assert len(zlib.decompress(pixels)) == 180 * (1 + 3 * 240)


def test_a_voice_note_has_the_pages_and_length_it_says() -> None:
    data = keepsakes.voice(3)
    pages = data.split(b"OggS")[1:]
    assert [page[1] for page in pages] == [2, 0, 0, 0, 4]
    assert struct.unpack_from("<q", pages[-1], 2) == (3 * 48000,)
    assert pages[0].endswith(b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 0, 48000, 0, 0))
    assert keepsakes._ogg_sum(b"\x01") == 0x04C11DB7  # Ogg's polynomial, not zlib's


def test_a_pdf_says_where_its_objects_are() -> None:
    data = keepsakes.pdf("Preparo (leia)", "Sem maquiagem, atenção")
    start = int(data.rstrip().splitlines()[-2])
    lines = data[start:].split(b"\n")
    assert lines[:2] == [b"xref", b"0 6"]
    for number, line in enumerate(lines[3:8], start=1):
        assert data[int(line[:10]) :].startswith(b"%d 0 obj" % number)
    assert b"Preparo \\(leia\\)" in data


@pytest.mark.parametrize("make", set(patients.MORE))
def test_what_patients_send_beside_words(make: patients.Making) -> None:
    said = make(random.Random(1))
    kind = said["message"]["type"]
    assert ("media" in said) == (kind in {"image", "audio", "document"})
    assert "media" in said or said["message"][kind]


def test_a_talk_opens_with_words() -> None:
    chance = random.Random(7)
    patient = patients.Patient("5511900000001", "Mariana Lopes")
    said = []
    for _ in range(200):
        opening = patient.left == 0
        one = patient.next_message(chance)
        assert not opening or one["text"] in patients.OPENINGS
        said.append(one)
    others = {one["message"]["type"] for one in said if "message" in one}
    assert others == {"image", "audio", "document", "location", "interactive"}
    assert sum("text" in one for one in said) > len(said) / 2
