"""What leaves: `compose` takes an outbound message in, `work` carries out lane jobs, `judge` holds their rules."""

from router.delivery.claim import Claim
from router.delivery.compose import Compose, Order
from router.delivery.work import Delivery

__all__ = ["Claim", "Compose", "Delivery", "Order"]
