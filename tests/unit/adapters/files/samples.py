"""The beginnings of real files, as small as their formats allow."""

import io
import struct
import zipfile


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, f"<{name}/>" * 20)
    return file.getvalue()


def book() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        archive.writestr("META-INF/container.xml", "<container/>")
    return file.getvalue()


def boxed(brand: bytes, *more: bytes) -> bytes:
    body = brand + b"\x00\x00\x02\x00" + b"".join(more)
    return struct.pack(">I", 8 + len(body)) + b"ftyp" + body + struct.pack(">I", 8) + b"moov" + bytes(64)


def ogg(packet: bytes) -> bytes:
    return (
        b"OggS\x00\x02" + bytes(8) + b"\x01\x00\x00\x00" + bytes(8) + b"\x01" + bytes([len(packet)]) + packet
    )


JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xdb\x00\x43" + b"\x01" * 67
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(17)
OPUS = ogg(b"OpusHead\x01\x01" + bytes(11))
M4A = boxed(b"M4A ", b"M4A ", b"mp42", b"isom")
MP4 = boxed(b"isom", b"isom", b"iso2", b"avc1", b"mp41")
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sorry</title></head></html>"
OFFICE = "application/vnd.openxmlformats-officedocument."

FILES = {
    "jpeg": (JPEG, "image/jpeg"),
    "jpeg of a camera": (b"\xff\xd8\xff\xe1\x00\x10Exif\x00\x00" + bytes(40), "image/jpeg"),
    "png": (PNG, "image/png"),
    "webp": (b"RIFF\x24\x00\x00\x00WEBPVP8 " + b"\x01" * 28, "image/webp"),
    "gif": (b"GIF89a" + b"\x01" * 20, "image/gif"),
    "heic": (boxed(b"heic", b"mif1"), "image/heic"),
    "opus": (OPUS, "audio/ogg"),
    "vorbis": (ogg(b"\x01vorbis" + bytes(22)), "audio/ogg"),
    "theora": (ogg(b"\x80theora" + bytes(35)), "video/ogg"),
    "mp4": (MP4, "video/mp4"),
    "mp4 of another brand": (boxed(b"mp42", b"isom", b"mp42"), "video/mp4"),
    "m4a": (M4A, "audio/mp4"),
    "3gp": (boxed(b"3gp4", b"isom", b"3gp4"), "video/3gpp"),
    "quicktime": (boxed(b"qt  ", b"qt  "), "video/quicktime"),
    "webm": (
        b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webm",
        "video/webm",
    ),
    "aac": (b"\xff\xf1\x50\x80\x02\x1f\xfc" + b"\x01" * 60, "audio/aac"),
    "aac of MPEG-2": (b"\xff\xf9\x50\x80\x02\x1f\xfc" + b"\x01" * 60, "audio/aac"),
    "amr": (b"#!AMR\n" + b"\x3c" * 32, "audio/amr"),
    "mp3": (b"\xff\xfb\x90\x44" + bytes(413), "audio/mpeg"),
    "mp3 with a tag": (b"ID3\x04\x00\x00\x00\x00\x00\x00\xff\xfb\x90\x00" + bytes(60), "audio/mpeg"),
    "wav": (b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(20), "audio/wav"),
    "pdf": (PDF, "application/pdf"),
    "docx": (
        zipped("[Content_Types].xml", "_rels/.rels", "word/document.xml"),
        f"{OFFICE}wordprocessingml.document",
    ),
    "docx of LibreOffice": (
        zipped("_rels/.rels", "docProps/app.xml", "word/_rels/document.xml.rels", "[Content_Types].xml"),
        f"{OFFICE}wordprocessingml.document",
    ),
    "xlsx": (zipped("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"), f"{OFFICE}spreadsheetml.sheet"),
    "pptx": (zipped("[Content_Types].xml", "ppt/presentation.xml"), f"{OFFICE}presentationml.presentation"),
    "zip": (zipped("laudo.txt"), "application/zip"),
    "epub": (book(), "application/epub+zip"),
    "a program": (b"MZ\x90\x00" + bytes(60), "application/vnd.microsoft.portable-executable"),
    "a page": (PAGE, "text/html"),
    "a page after a comment": (b"\xef\xbb\xbf\n<!-- a -->\n<!-- b --><HTML lang=pt>", "text/html"),
    "a drawing": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
    "a card": (b"BEGIN:VCARD\r\nVERSION:3.0\r\nEND:VCARD\r\n", "text/vcard"),
    "words": ("Olá, o laudo está pronto".encode(), "text/plain"),
    "words that begin like a tag": (b"<3 obrigada", "text/plain"),
    "nothing known": (bytes(range(128, 256)), "application/octet-stream"),
    "words with a NUL": (b"abc\x00def", "application/octet-stream"),
}
