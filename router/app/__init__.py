"""The composition root: the one place that names adapters, opens connections and starts loops."""

from router.app.parts import open_desk
from router.app.serve import serve

__all__ = ["open_desk", "serve"]
