from pathlib import Path

import pytest

from adapters.files.store import open_store
from router.domain.errors import ConfigurationError
from router.settings import MediaSettings, S3Settings, Settings, load

S3 = """
[media.s3]
bucket = "clinica"
region = "sa-east-1"
endpoint = "http://127.0.0.1:9000"
access_key_id = "env:S3_KEY"
secret_access_key = "env:S3_SECRET"
prefix = "figueira"
allow_http = true
"""


def read(folder: Path, text: str) -> Settings:
    path = folder / "figueira.toml"
    path.write_text(text)
    environ = {"FIGUEIRA_HOME": str(folder / "home"), "S3_KEY": "key-hunter2", "S3_SECRET": "secret-hunter2"}
    return load(environ, path, kinds=("whatsapp",))


def test_files_lie_in_the_home_when_nothing_is_said(tmp_path: Path) -> None:
    assert read(tmp_path, "").media == MediaSettings(tmp_path / "home" / "media")


def test_everything_is_read(tmp_path: Path) -> None:
    hosts = '["files.example", "10.0.0.7:8080", "[::1]:9000"]'
    found = read(tmp_path, f'[media]\ndirectory = "/srv/files"\nallow_hosts = {hosts}\n{S3}')
    assert found.media == MediaSettings(
        Path("/srv/files"),
        ("files.example", "10.0.0.7:8080", "[::1]:9000"),
        S3Settings(
            "clinica", "sa-east-1", "http://127.0.0.1:9000", "key-hunter2", "secret-hunter2", "figueira", True
        ),
    )
    assert "hunter2" not in repr(found)
    open_store(found.media)  # as it is: the store asks for nothing else, and connects to nothing
    assert not Path("/srv/files").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[media]\ndirektory = 1", r"media\.direktory in .*: there is no such key; did you mean directory\?"),
        ("[media]\ndirectory = 1", r"media\.directory in .*: it must be a text"),
        ('[media]\nallow_hosts = "a"', r"media\.allow_hosts in .*: it must be a list; write \["),
        ('[media]\nallow_hosts = ["https://a"]', r"media\.allow_hosts in .*hosts; write \"host\" or"),
        ('[media]\nallow_hosts = ["a/b"]', r"media\.allow_hosts in .*hosts"),
        ("[media]\ns3 = 1", r"media\.s3 in .*: it must be a table"),
        ('[media.s3]\nregion = "x"', r"media\.s3\.bucket in .*: it is missing; name the bucket"),
        ('[media.s3]\nbucket = "x"\naccess_key_id = "hunter2"', r"media\.s3 in .*: one of .* set both"),
        (
            '[media.s3]\nbucket = "x"\nendpoint = "http://y"',
            r"media\.s3\.endpoint in .*: it is not encrypted",
        ),
        ('[media.s3]\nbucket = "x"\nendpoint = "y"', r"media\.s3\.endpoint in .*: it is no http"),
        ('[media.s3]\nbucket = "x"\nallow_http = "yes"', r"media\.s3\.allow_http in .*: it must be true"),
        ('[media.s3]\nbucket = "env:NOPE"', r"media\.s3\.bucket in .*: the environment has no NOPE"),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_the_mend(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        read(tmp_path, text)
    assert "hunter2" not in str(caught.value)
