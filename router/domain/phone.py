"""Phone numbers as keys. A number is never rewritten for sending; only what is compared is canonical."""

import re

_DRESSING = re.compile(r"[\s().+\-/]")
# Brazil: a mobile written the old way, 55 + area + eight digits of which the first is 6-9.
_BRAZIL_OLD_MOBILE = re.compile(r"55[1-9][1-9][6-9][0-9]{7}")


def digits(value: str) -> str | None:
    """The bare digits of a phone number written in any common way; None when it is no number."""
    bare = _DRESSING.sub("", value)
    return bare if bare.isascii() and bare.isdigit() else None


def canonical(digits: str) -> str:
    """The one key under which all spellings of a number meet.

    A Brazilian mobile gets its ninth digit: WhatsApp knows the same phone as 553196880001 and 5531996880001,
    depending on when the account was registered. Land lines (first digit 2-5), other countries and whatever is
    no number stay as they are. Two people can meet in one key only when a number was recycled.
    """
    if _BRAZIL_OLD_MOBILE.fullmatch(digits):
        return f"{digits[:4]}9{digits[4:]}"
    return digits
