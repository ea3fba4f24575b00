"""What leaves: `compose` takes an outbound message in; `claim`, `work`, `files` and `ends` carry out lane jobs. Their
rules are pure functions: router/domain/sending.py."""

from router.delivery.claim import Claim
from router.delivery.compose import Compose, Order
from router.delivery.work import Delivery

__all__ = ["Claim", "Compose", "Delivery", "Order"]
