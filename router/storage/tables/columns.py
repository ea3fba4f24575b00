"""The columns that the tables are made of: none of them NULL unless they say so."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    Sequence,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()


def words(name: str, **options: Any) -> Column[str]:
    return Column(name, Text, **{"nullable": False, **options})


def tenant() -> Column[str]:
    return words("tenant_id")


def moment(name: str, **options: Any) -> Column[Any]:
    return Column(name, DateTime(timezone=True), **{"nullable": False, **options})


def uid(name: str, *more: Any, **options: Any) -> Column[Any]:
    return Column(name, Uuid, *more, **{"nullable": False, **options})


def count(name: str, **options: Any) -> Column[int]:
    return Column(name, Integer, **{"nullable": False, "server_default": text("0"), **options})


def sequence(name: str) -> Column[int]:
    made = Sequence(name, metadata=metadata, data_type=BigInteger)
    return Column("seq", BigInteger, made, server_default=made.next_value(), nullable=False)


def link(target: str) -> ForeignKey:
    # Deferred: the heart may write a transaction's rows in any order.
    return ForeignKey(target, deferrable=True, initially="DEFERRED")


def document(name: str, empty: str = "{}") -> Column[Any]:
    return Column(name, JSONB, nullable=False, server_default=text(f"'{empty}'::jsonb"))
