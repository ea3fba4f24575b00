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


class Say(Request):
    """Exactly one of `text`, `media`, `template`, `interactive`, `location`, `contacts`, `reaction` is what is said;
    `reply_to` names a message of the conversation (docs/how-to/send-messages.md has each by example)."""

    text: str | None = None
    media: Annotated[
        dict[str, Any] | None, Field(description="{kind?, url | media_id, caption?, filename?, voice?}")
    ] = None
    template: Annotated[dict[str, Any] | None, Field(description="{name, language: {code}, components?}")] = (
        None
    )
    interactive: Annotated[dict[str, Any] | None, Field(description="WhatsApp's object, as it is")] = None
    location: Annotated[
        dict[str, Any] | None, Field(description="{latitude, longitude, name?, address?}")
    ] = None
    contacts: Annotated[list[Any] | None, Field(description="WhatsApp's contact objects")] = None
    reaction: Annotated[
        dict[str, Any] | None, Field(description='{message_id, emoji}; emoji "" takes it back')
    ] = None
    reply_to: _Id | None = None
    metadata: dict[str, Any] | None = None


class MessageRequest(Say):
    """One of `conversation_id`, `contact_id`, `user_id`, `to` says to whom. `channel`: a slug, or a kind of which the
    key's tenant has exactly one channel."""

    channel: str | None = None
    to: str | None = None
    contact_id: _Id | None = None
    conversation_id: _Id | None = None
    user_id: _Id | None = None


class Accepted(Answer):
    """The message is stored and stands in its lane. `chunks`: a long text became these messages, in order."""

    id: UUID
    conversation_id: UUID
    contact_id: UUID
    path: Path
    status: str
    chunks: list[UUID] | None = None


class MessageFile(Answer):
    """A file of a message; `url` answers with its bytes once it is stored."""

    id: UUID
    state: Literal["waiting", "stored", "gone", "refused"]
    mime: str | None = None
    name: str | None = None
    size: int | None = None
    error_code: str | None = None
    url: str


class MessageState(Answer):
    """`attempts`: each try, in order."""

    id: UUID
    status: str
    path: Path
    external_id: str | None = None
    decision_id: UUID | None = None
    attempts: list[dict[str, Any]]


class MessageItem(Answer):
    """One message of a conversation. `data`: the object of a location, contacts, interactive, template, reaction or
    order; empty for other kinds."""

    id: UUID
    direction: Literal["inbound", "outbound"]
    kind: str
    text: str | None = None
    external_id: str | None = None
    source_id: str | None = None
    status: str
    path: Path
    sent_at: datetime
    media: list[MessageFile] = []
    metadata: dict[str, Any] = {}
    data: dict[str, Any] = {}


# files -----------------------------------------------------------------------------------------------------


class Uploaded(Answer):
    """A file that messages may name."""

    id: UUID
    mime: str
    size: int
    sha256: str


class FileItem(Answer):
    """A file and what became of it."""

    id: UUID
    state: Literal["waiting", "stored", "gone", "refused"]
    mime: str | None = None
    name: str | None = None
    size: int | None = None
    message_id: UUID | None = None
    error_code: str | None = None


# conversations ---------------------------------------------------------------------------------------------


class ConversationItem(Answer):
    """A conversation and its pin. `window_open` null: its kind may be written to at any time."""

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
    heard_at: datetime | None = None
    read_at: datetime | None = None
    unread: bool = False
    window_open: bool | None = None
    opted_out: bool = False


class DecisionItem(Answer):
    """One time the pin was made or moved."""

    stage: str
    path: Path
    rule: str
    revision: int
    reason: str
    guard: str | None = None
    at: datetime


class Seen(Request):
    """An attendant has read the conversation; `typing`: and writes an answer."""

    typing: Annotated[bool, Field(strict=True)] = False


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
    opted_out: bool = False


class ContactItem(Answer):
    """A person outside."""

    id: UUID
    tenant: str
    name: str | None = None
    contact_class: Literal["staff", "test", "patient"]
    user_id: UUID | None = None
    created_at: datetime


class ContactDetail(ContactItem):
    """With every way to reach them; `opted_out` when they asked at any of them to be written to no more."""

    identities: list[IdentityItem]
    opted_out: bool = False


class OptOut(Request):
    """Whether the contact wants to be written to no more, and how that is known."""

    opted_out: Annotated[bool, Field(strict=True)]
    reason: Reason


# users -----------------------------------------------------------------------------------------------------


class UserRequest(Request):
    """What the clinic knows of its user. `tenant`: only with a key for every tenant, and needed there."""

    name: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00]*$")] | None = None
    phone: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    email: Annotated[str, Field(min_length=3, max_length=254)] | None = None
    tenant: Name | None = None


class RocketChatUser(Answer):
    """`refused` with its code (two_factor, licence_limit, forbidden, …) is no failure of the rest."""

    state: Literal["mapped", "not_configured", "refused"]
    rc_user_id: str | None = None
    code: str | None = None
    detail: str | None = None


class UserMapped(Answer):
    """Who the user is here, and there."""

    id_user: UUID
    contact_id: UUID
    rocketchat: RocketChatUser


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
