"""The routing layer: every customer message passes here, on its way through Rocket.Chat or a native adapter.

What enters is stored before it is answered, what leaves is recorded before it is sent, and each conversation
keeps the path it was given until it ends or is moved. The composition root is `router.app`; nothing connects,
reads the environment or starts a thread at import.
"""
