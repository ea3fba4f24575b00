"""`figueira contacts erase`."""

import json
from typing import Any
from uuid import UUID

import pytest

from router.control import erasure
from router.domain.errors import Rejected
from tests.unit.cli.scene import Control, Figueira

ID = "01890a5d-ac96-774b-bcce-b302099a8057"
TOLD = {
    "contact_id": ID,
    "dry_run": False,
    "counts": {"messages": 3, "files": 0, "events": 12},
    "user": "left",
}


def test_erase_says_what_went_and_what_is_left(figueira: Figueira, control: Control, desk: Any) -> None:
    erase = control(erasure, "erase", TOLD)
    code, out, err = figueira("contacts", "erase", ID)
    assert code == 0
    assert out.splitlines() == [f"{ID} is erased", "messages  3", "events    12"]
    assert "tb_users is the clinic's" in err
    erase.assert_awaited_once_with(desk, UUID(ID), by="ana", dry_run=False)


def test_a_dry_run_only_counts(figueira: Figueira, control: Control, desk: Any) -> None:
    erase = control(erasure, "erase", TOLD | {"dry_run": True})
    code, out, err = figueira("contacts", "erase", ID, "--dry-run", "--by", "bia")
    assert (code, out.splitlines()[0], err) == (0, f"{ID} would be erased", "")
    erase.assert_awaited_once_with(desk, UUID(ID), by="bia", dry_run=True)


def test_json_is_the_report(figueira: Figueira, control: Control) -> None:
    control(erasure, "erase", TOLD)
    assert json.loads(figueira("contacts", "erase", ID, "--json")[1]) == TOLD


@pytest.mark.parametrize(("argument", "code"), [("maria", 2), (ID, 1)])
def test_what_is_no_contact(figueira: Figueira, control: Control, argument: str, code: int) -> None:
    control(erasure, "erase", Rejected("unknown_contact", "no such contact", 404))
    found, out, err = figueira("contacts", "erase", argument)
    assert (found, out) == (code, "")
    assert len(err.splitlines()) == 1
