"""What the settings are, once read and checked."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from router.domain.channel import Channel
from router.domain.policy import Policy
from router.settings.keys import Keys

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class RoomSource:
    """Where the rooms of one `room.source.id` belong; with a department, only those of it."""

    channel: str
    department: str | None = None


@dataclass(frozen=True, slots=True)
class RocketChatSettings:
    """`[rocketchat]`: the one Rocket.Chat."""

    base_url: str
    user_id: str | None = field(default=None, repr=False)
    auth_token: str | None = field(default=None, repr=False)
    bot_user_id: str | None = None
    webhook_token: str | None = field(default=None, repr=False)
    integration_token: str | None = field(default=None, repr=False)
    sources: Mapping[str, RoomSource] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class S3Settings:
    """`[media.s3]`: a bucket for the files. Without keys, AWS's usual chain is asked for some."""

    bucket: str
    region: str | None = None
    endpoint: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    prefix: str | None = None
    allow_http: bool = False


@dataclass(frozen=True, slots=True)
class MediaSettings:
    """`[media]`: where files are kept, and which hosts are trusted to have some. `s3` goes before `directory`."""

    directory: Path = Path(".figueira/media")
    allow_hosts: tuple[str, ...] = ()
    s3: S3Settings | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """All of them. `database_url` None: the embedded server in `home`."""

    home: Path
    keys: Keys
    database_url: str | None = field(default=None, repr=False)
    flags: str = "local"  # local | unleash
    unleash_url: str | None = None
    unleash_token: str | None = field(default=None, repr=False)
    unleash_admin_token: str | None = field(default=None, repr=False)
    broker_url: str | None = field(default=None, repr=False)
    openai_base_url: str | None = None
    openai_api_key: str | None = field(default=None, repr=False)
    openai_model: str | None = None
    shared: Path = Path("../shared")
    public_url: str | None = None
    trusted_proxies: tuple[Network, ...] = ()
    log_format: str = "json"  # json | console
    rocketchat: RocketChatSettings | None = None
    channels: Mapping[str, Channel] = field(default_factory=dict)
    assistants: Mapping[str, str] = field(default_factory=dict)  # slug → off | enrich | reply
    policy: Policy = field(default_factory=Policy)
    media: MediaSettings = field(default_factory=MediaSettings)
