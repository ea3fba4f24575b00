"""Addresses that no server is behind."""

import pytest

from migration.sources import SourceError
from migration.sources.live import _client


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("mongodb+srv://ana:s3gredo@127.0.0.1/rocketchat", "SRV record"),
        ("mongodb://ana:s3@gredo@db/rocketchat?x@y", "percent-escape"),
        ("mongodb://an:a:s3gredo@db/rocketchat", "percent-escape"),
    ],
)
def test_an_address_that_cannot_be_used(uri: str, said: str) -> None:
    """The mend fits what is wrong, and the password is nowhere."""
    with pytest.raises(SourceError, match=said) as caught:
        _client(uri)
    assert "s3" not in str(caught.value)
    assert caught.value.__cause__ is None
