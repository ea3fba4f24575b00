"""Whatever a document holds: a row that fits its table, or a Reject. And no row holds a token."""

from typing import Any

import bson
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migration.collections import Copied
from migration.collections.register import REGISTER
from migration.collections.values import FIRST, LAST
from migration.documents import CODEC, Reject
from router.storage.archive.shape import Shape, Type
from tests.unit.migration.collections.shapes import DOCUMENTS, MASK, READER, TOKEN, VALUE, copied

COPIED = sorted(name for name, what in REGISTER.items() if isinstance(what, Copied))
CODES = {"no_id", "nul", "date_range", "wrong_type", "orphan"}
KINDS: dict[Type, type] = {
    Type.TEXT: str,
    Type.TIME: int,
    Type.BOOL: bool,
    Type.JSON: bytes,
    Type.RAW: bytes,
    Type.INT: int,
}


def fits(shape: Shape, row: tuple[Any, ...]) -> None:
    """What PostgreSQL would refuse, and what another reader would."""
    assert len(row) == len(shape.columns)
    for index, (name, kind) in enumerate(shape.columns):
        value = row[index]
        if value is None:
            assert name not in {*shape.key, "raw"}, name
            continue
        found = type(value)
        assert found is KINDS[kind], name
        if kind is Type.TEXT:
            assert "\x00" not in value, name
            value.encode()
        elif kind is Type.TIME:
            assert FIRST <= value <= LAST, name
        elif kind is Type.INT:
            assert -(2**63) <= value < 2**63, name
        elif kind is Type.JSON:
            orjson.loads(value)
            assert b"\\u0000" not in value.replace(b"\\\\", b""), name


def mapped(collection: str, document: dict[str, Any]) -> tuple[Any, ...] | None:
    what = copied(collection)
    raw = bson.encode(document)
    kept = MASK(raw)
    kept = what.clean(kept) if what.clean else kept
    document = dict(bson.decode(raw, CODEC))
    try:
        row = what.map(READER, collection, document, kept)
    except Reject as reject:
        refused = reject.code
    else:
        fits(what.shape, row)
        assert row[-1] is kept
        return row
    assert refused in CODES
    return None


def written(row: tuple[Any, ...]) -> str:
    return repr(row[:-1])


@pytest.mark.parametrize(("collection", "document"), DOCUMENTS)
def test_a_real_document_is_never_refused(collection: str, document: dict[str, Any]) -> None:
    row = mapped(collection, document)
    assert row is not None
    assert TOKEN not in written(row)
    assert TOKEN.encode() not in row[-1].replace(b"?token=" + TOKEN.encode(), b"")


@given(st.sampled_from(DOCUMENTS), st.data())
def test_fields_replaced_by_anything(sample: tuple[str, dict[str, Any]], data: st.DataObject) -> None:
    collection, document = sample
    names = data.draw(st.lists(st.sampled_from(sorted(document)), min_size=1, max_size=3, unique=True))
    row = mapped(collection, {**document, **{name: data.draw(VALUE, label=name) for name in names}})
    if row is not None and not any(name.startswith("token") for name in names):
        assert TOKEN not in written(row)


@given(
    st.sampled_from(COPIED),
    st.dictionaries(
        st.sampled_from(sorted({name for _, document in DOCUMENTS for name in document})) | st.just("zz"), VALUE, max_size=8
    ),
)  # fmt: skip
def test_any_document_at_all(collection: str, document: dict[str, Any]) -> None:
    mapped(collection, document)
    mapped(collection, {"_id": "x", "rid": "r", "ts": DOCUMENTS[0][1]["ts"], **document})


TOKENS = st.from_regex(r"tk[A-Za-z0-9]{16,40}", fullmatch=True)


def hide(value: Any, token: str, draw: Any) -> Any:
    """The document with the token wherever a document may have one."""
    if isinstance(value, dict):
        deeper = {name: hide(one, token, draw) for name, one in value.items()}
        return {**deeper, "token": token} if draw(st.booleans()) else deeper
    if isinstance(value, list):
        return [hide(one, token, draw) for one in value]
    if isinstance(value, str) and "/file-upload/" in value:
        return f"{value.partition('?')[0]}?token={token}"
    return value


@given(st.sampled_from(DOCUMENTS), TOKENS, st.data())
def test_no_row_holds_a_token(sample: tuple[str, dict[str, Any]], token: str, data: st.DataObject) -> None:
    collection, document = sample
    row = mapped(collection, {**hide(document, token, data.draw), "token": token})
    assert row is not None
    assert token not in written(row)
