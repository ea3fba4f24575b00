"""The shapes of requests and answers (docs: /openapi.json). An answer may carry more than is named here."""

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from flags.stage import Path, Stage

MOST: int = 200  # items of a page
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"

T = TypeVar("T")

Name = Annotated[str, Field(pattern=_NAME)]
"""A slug, a tenant, a kind. Only such text can come back in an error's detail."""
_Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]
Reason = Annotated[str, Field(min_length=1, max_length=500, pattern=r"\S")]
Limit = Annotated[int, Query(ge=1, le=MOST)]
Cursor = Annotated[str | None, Query(max_length=512, pattern=r"^[!-~]*$")]
Search = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")]


def _aware(at: datetime | None) -> datetime | None:
    """A time without a zone is meant as UTC."""
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


Since = Annotated[datetime | None, AfterValidator(_aware)]


class Request(BaseModel):
    """What a caller sends: unknown fields are refused, so that a slip of the pen is no silence."""

    model_config = ConfigDict(extra="forbid")


class Answer(BaseModel):
    """What a caller gets."""

    model_config = ConfigDict(extra="allow", from_attributes=True)


class Page(BaseModel, Generic[T]):
    """One page of a list, newest first. `next_cursor` null: this was the last."""

    items: list[T]
    next_cursor: str | None = None


# messages --------------------------------------------------------------------------------------------------


class MessageRequest(Request):
    """One of `conversation_id`, `contact_id`, `user_id`, `to` says to whom; one of `text`, `media`, `template`,
    `interactive` what. `channel`: a slug, or a kind of which the key's tenant has exactly one channel."""

    channel: str | None = None
    to: str | None = None
    contact_id: _Id | None = None
    conversation_id: _Id | None = None
    user_id: _Id | None = None
    text: str | None = None
    media: dict[str, Any] | None = None
    template: dict[str, Any] | None = None
    interactive: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


class Accepted(Answer):
    """The message is stored and stands in its lane."""

    id: UUID
    conversation_id: UUID
    contact_id: UUID
    path: Path
    status: str


class MessageState(Answer):
    """`attempts`: each try, in order."""

    id: UUID
    status: str
    path: Path
    external_id: str | None = None
    decision_id: UUID | None = None
    attempts: list[dict[str, Any]]


class MessageItem(Answer):
    """One message of a conversation."""

    id: UUID
    direction: Literal["inbound", "outbound"]
    kind: str
    text: str | None = None
    external_id: str | None = None
    source_id: str | None = None
    status: str
    path: Path
    sent_at: datetime


# conversations ---------------------------------------------------------------------------------------------


class ConversationItem(Answer):
    """A conversation and its pin."""

    id: UUID
    channel: str
    kind: str
    tenant: str
    contact_id: UUID
    path: Path
    pin_version: int
    state: Literal["open", "closed"]
    opened_at: datetime
    closed_at: datetime | None = None


class DecisionItem(Answer):
    """One time the pin was made or moved."""

    stage: str
    path: Path
    rule: str
    revision: int
    reason: str
    guard: str | None = None
    at: datetime


class Say(Request):
    """What an attendant says."""

    text: str


class Move(Request):
    """Where the conversation goes."""

    path: Path
    reason: Reason


# contacts --------------------------------------------------------------------------------------------------


class Address(Answer):
    """One spelling or id of an identity."""

    kind: str
    value: str


class IdentityItem(Answer):
    """One way to reach a contact on one kind."""

    id: UUID
    kind: str
    addresses: list[Address]


class ContactItem(Answer):
    """A person outside."""

    id: UUID
    tenant: str
    name: str | None = None
    contact_class: Literal["staff", "test", "patient"]
    user_id: UUID | None = None
    created_at: datetime


class ContactDetail(ContactItem):
    """With every way to reach them."""

    identities: list[IdentityItem]


# flags -----------------------------------------------------------------------------------------------------


class FlagRequest(Request):
    """A change. Without tenants, channels and class it is the kind's own stage; each selector is a rule of its own.
    `now` also moves the open conversations concerned; `dry_run` only counts them."""

    stage: Stage
    percent: Annotated[int, Field(strict=True, ge=0, le=100)] | None = None
    tenants: Annotated[list[Name], Field(max_length=200)] = []
    channels: Annotated[list[Name], Field(max_length=200)] = []
    contact_class: Annotated[Literal["staff", "test"] | None, Field(alias="class")] = None
    now: Annotated[bool, Field(strict=True)] = False
    dry_run: Annotated[bool, Field(strict=True)] = False
    reason: Reason


class OverrideRequest(Request):
    """Why; `now` also moves the open conversations."""

    reason: Reason
    now: Annotated[bool, Field(strict=True)] = False


class StrategyItem(Answer):
    """One rule: which contacts, what stage, what share of them."""

    rule: Literal["class", "channel", "tenant"]
    values: list[str]
    stage: Stage
    percent: int


class FlagItem(Answer):
    """The flag of a kind at one revision, which is also its ETag."""

    kind: str
    stage: Stage
    percent: int | None = None
    base: Stage
    strategies: list[StrategyItem]
    revision: int
    override: dict[str, Any] | None = None
    updated_by: str
    updated_at: datetime | None = None
    reason: str


class FlagChanged(FlagItem):
    """`moved`: open conversations that changed paths; `dry_run`: what would be, when only that was asked."""

    warnings: list[str]
    moved: int
    dry_run: dict[str, Any] | None = None


# operations ------------------------------------------------------------------------------------------------


class Ready(Answer):
    """`degraded`: what is down and held for (`rocketchat`, `native:<channel>`); the router itself works."""

    status: Literal["ready", "unavailable"]
    degraded: list[str]


class Comparison(Answer):
    """How both paths do, and what the shadow saw."""

    paths: dict[str, Any]
    shadow: dict[str, Any]
    guard: dict[str, Any]
