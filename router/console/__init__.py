"""What people look at: server-rendered pages behind a login, texts in Portuguese, nothing loaded from elsewhere."""

from router.console.site import mount

__all__ = ["mount"]
