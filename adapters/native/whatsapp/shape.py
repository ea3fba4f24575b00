"""What checks of a message's shape share: each raises Rejected("invalid_content"), naming the field, never its value."""

from typing import Any, NoReturn

from router.domain.errors import Rejected


def invalid(where: str, wanted: str) -> NoReturn:
    """Says which field, and what it should be."""
    raise Rejected("invalid_content", f"`{where}` {wanted}")


def an_object(value: Any, where: str) -> dict[str, Any]:
    """`value`, an object with something in it."""
    return (
        value if isinstance(value, dict) and value else invalid(where, "must be an object that is not empty")
    )


def objects(value: Any, where: str, most: int) -> list[dict[str, Any]]:
    """`value`, a list of one to `most` objects."""
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        invalid(where, f"must be a list of 1 to {most}")
    return [an_object(item, f"{where}[{at}]") for at, item in enumerate(value)]


def required(value: Any, where: str, most: int) -> str:
    """`value`, a text of one to `most` characters that are not all blank."""
    if not isinstance(value, str) or not value.strip() or len(value) > most:
        invalid(where, f"must be a text of 1 to {most} characters")
    return value


def optional(value: Any, where: str, most: int) -> str | None:
    """`value`, a text of at most `most` characters, or None."""
    if value is not None and (not isinstance(value, str) or len(value) > most):
        invalid(where, f"must be a text of at most {most} characters")
    return value


def flag(value: Any, where: str) -> None:
    """True, false, or nothing."""
    if value is not None and not isinstance(value, bool):
        invalid(where, "must be true or false")


def unlike(values: list[str], where: str) -> None:
    """No two are the same."""
    if len(set(values)) != len(values):
        invalid(where, "must not repeat")
