import pytest

from router.domain.phone import canonical, digits


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("553196880001", "5531996880001"),  # mobile, registered before the ninth digit
        ("5531996880001", "5531996880001"),
        ("551140028922", "551140028922"),  # land line
        ("551160028922", "5511960028922"),
        ("550196880001", "550196880001"),  # no such area
        ("5215512345678", "5215512345678"),  # another country
        ("3196880001", "3196880001"),
        ("", ""),
        ("BR.123", "BR.123"),
    ],
)
def test_one_key_for_all_spellings(given: str, key: str) -> None:
    assert canonical(given) == key
    assert canonical(key) == key


@pytest.mark.parametrize(
    ("written", "bare"),
    [
        ("+55 (31) 9688-0001", "553196880001"),
        ("5531.9688.0001", "553196880001"),
        ("whatsapp:+55", None),
        ("٣٤٥", None),
        ("", None),
        ("ramal 12", None),
    ],
)
def test_digits_of_common_spellings(written: str, bare: str | None) -> None:
    assert digits(written) == bare
