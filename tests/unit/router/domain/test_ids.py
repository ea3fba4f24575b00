from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.domain.ids import METEOR, Ids, rocketchat_id, uuid7

NOW = datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC)


class Fixed:
    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    def bytes(self, count: int) -> bytes:
        return b"\xff" * count

    def fraction(self) -> float:
        return 0.5


@given(st.binary(min_size=10, max_size=10), st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1)))
def test_uuid7_is_version_seven_and_carries_its_millisecond(noise: bytes, naive: datetime) -> None:
    now = naive.replace(tzinfo=UTC)
    made = uuid7(now, noise)
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert made.int >> 80 == int(now.timestamp() * 1000)


def test_uuid7_of_rfc_9562_appendix_a6() -> None:
    noise = (0xCC3 << 62 | 0x18C4DC0C0C07398F).to_bytes(10, "big")
    moment = datetime.fromtimestamp(0x017F22E279B0 / 1000, UTC)
    assert str(uuid7(moment, noise)) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


def test_a_later_millisecond_sorts_later() -> None:
    assert uuid7(NOW, b"\xff" * 10) < uuid7(NOW + timedelta(milliseconds=1), b"\0" * 10)


@pytest.mark.parametrize("size", [0, 9, 11])
def test_uuid7_wants_ten_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="10 random bytes"):
        uuid7(NOW, b"x" * size)


@given(st.binary(min_size=17, max_size=40))
def test_rocketchat_id_has_meteors_shape(noise: bytes) -> None:
    made = rocketchat_id(noise)
    assert len(made) == 17
    assert set(made) <= set(METEOR)


def test_rocketchat_id_wants_enough_noise() -> None:
    with pytest.raises(ValueError, match="17 random bytes"):
        rocketchat_id(b"x" * 16)


def test_ids_come_from_the_ports_alone() -> None:
    one, other = Ids(Fixed(), Fixed()), Ids(Fixed(), Fixed())
    assert one.new() == other.new() == uuid7(NOW, b"\xff" * 10)
    assert one.rocketchat() == other.rocketchat()
