"""The numbers behind delivery and accept: how long, how often, how large (`[delivery]` in figueira.toml)."""

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Policy:
    """Seconds unless the name says otherwise. The defaults are the product's promises (architecture.md)."""

    lease_seconds: float = 30.0
    """How long a claimed job is its worker's alone."""
    permit_seconds: float = 20.0
    """How long a permit opens a transport; shorter than the lease, so that nobody sends on a lost one."""
    request_timeout_seconds: float = 15.0
    """How long one request over the network may take; shorter than the permit."""
    unknown_after_seconds: float = 120.0
    """An `unknown` send with other statuses arriving on its address counts as not sent after this."""
    unknown_again_seconds: float = 15.0
    """How often an `unknown` send is looked at again."""
    unknown_dead_seconds: float = 1800.0
    """An `unknown` send without any evidence becomes a dead letter after this."""
    retry_base_seconds: float = 1.0
    retry_cap_seconds: float = 300.0
    max_attempts: int = 10
    breaker_failures: int = 5
    """Failures in a row that trip a breaker."""
    breaker_base_seconds: float = 1.0
    breaker_cap_seconds: float = 30.0
    channel_ill_seconds: float = 60.0
    """How long a channel rests whose whole address is ill (token revoked, number banned)."""
    room_wait_seconds: float = 1800.0
    """How long a send on Rocket.Chat waits for its room to be known."""
    place_retry_seconds: float = 30.0
    """How often an unplaced room is asked for again."""
    transfer_seconds: float = 120.0
    """How long one file may take to come or go: the lease of such a job."""
    media_limit_bytes: int = 100 * MIB
    """The largest file that is fetched or taken in."""
    paced_cap_seconds: float = 256.0
    """The longest wait after a provider said "too fast for this recipient" (4, 16, 64 … seconds)."""
    sweep_seconds: float = 300.0
    """How often Rocket.Chat's history is compared with what its webhook told."""
    sweep_overlap_seconds: float = 900.0
    """How far behind its last run a sweep looks back."""
    split_batch: int = 20
    """Events split in one transaction."""
    body_limit_bytes: int = 4 * MIB
    rocketchat_body_limit_bytes: int = 16 * MIB
    """Rocket.Chat's webhook carries whole transcripts."""
