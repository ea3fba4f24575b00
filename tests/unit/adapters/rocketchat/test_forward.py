import pytest

from adapters.rocketchat.forward import endpoint, passed


@pytest.mark.parametrize(
    ("webhook", "path", "query", "target"),
    [
        ("https://chat.example/api/apps/public/x/webhook", b"", b"", "/api/apps/public/x/webhook"),
        ("https://chat.example/hook", b"/a%2Fb/../c", b"q=%20&q=2", "/hook/a%2Fb/../c?q=%20&q=2"),
        ("https://chat.example/hook/?k=1", b"/a", b"b=2", "/hook/a?k=1&b=2"),
        ("https://chat.example/hook?k=%2F", b"", b"", "/hook?k=%2F"),
        ("https://chat.example", b"", b"x", "/?x"),
        ("https://chat.example/h", b"/a b\r\nX: \xe1", b"y\n", "/h/a%20b%0D%0AX:%20%E1?y%0A"),
    ],
)
def test_endpoint(webhook: str, path: bytes, query: bytes, target: str) -> None:
    url = endpoint(webhook, path, query)
    assert url.raw_path_qs == target
    assert url.host == "chat.example"


def test_what_is_passed() -> None:
    headers = [
        (b"host", b"router"),
        (b"X-One", b"1"),
        (b"content-length", b"9"),
        (b"Connection", b"close, X-Named"),
        (b"x-named", b"hop"),
        (b"x-one", b"2"),
        (b"Keep-Alive", b"timeout=5"),
        (b"TE", b"trailers"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
        (b"authorization", b"Bearer x"),
        (b"x-name", "José".encode()),
    ]
    assert list(passed(headers).items()) == [
        ("X-One", "1"),
        ("X-One", "2"),
        ("authorization", "Bearer x"),
        ("x-name", "José"),
    ]
