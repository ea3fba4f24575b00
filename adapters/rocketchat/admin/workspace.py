"""Rocket.Chat's own settings: read and judged, and set as far as its REST API can."""

from collections.abc import Mapping, Sequence
from dataclasses import replace as changed
from typing import Any, Final

from adapters.payload import items, text
from adapters.rocketchat.admin import findings
from adapters.rocketchat.admin.accounts import create_user
from adapters.rocketchat.rest.answers import Reply
from adapters.rocketchat.rest.client import Client
from router.domain.ports import Finding, Refusal

HTTP_TIMEOUT: Final = 5000
"""Milliseconds Rocket.Chat waits for our answer; it asks again after four times as much."""
NAME: Final = "Figueira"
_PAGE: Final = 100
_PAGES: Final = 20


class Admin:
    """Implements `router.domain.ports.RocketChatAdmin`. The two tokens and the bot are those of our settings,
    `[rocketchat]`."""

    def __init__(
        self,
        client: Client,
        *,
        webhook_token: str | None,
        integration_token: str | None,
        bot_user_id: str | None = None,
    ) -> None:
        self._client = client
        self._ours = {bot_user_id} if bot_user_id else set()
        self._webhook_token = webhook_token
        self._integration_token = integration_token

    async def check(self, webhook_url: str | None) -> Sequence[Finding]:
        """Without a `webhook_url` no address is compared. Stops at a token that is not accepted."""
        me = await self._client.read("me")
        told = [findings.version(await self._version()), findings.user(me)]
        if not me.ok:
            return [*told, findings.proxies()]
        roles = findings.roles_of(me)
        granted = await self._client.read("permissions.listAll")
        told += findings.permissions(granted, roles)
        told += await self._webhook(webhook_url)
        if webhook_url is not None:
            told.append(await self._integration(webhook_url))
        limiter = await self._client.read("settings", tail="/API_Enable_Rate_Limiter")
        told.append(findings.rate_limit(limiter, findings.allowed(granted, roles), (me, granted, limiter)))
        return [*told, findings.proxies()]

    async def standing(self) -> Mapping[str, Any] | None:
        reply = await self._settings()
        return findings.standing(findings.settings_of(reply)) if reply.ok else None

    async def setup(self, webhook_url: str, *, dry_run: bool, replace: bool = False) -> Sequence[Finding]:
        """The omnichannel webhook and the integration of team rooms; what is right is left alone, and what was set is
        read back. A webhook that calls somebody else is left alone too, unless `replace`. With `dry_run` nothing is
        changed: `seen` says what would be."""
        me = await self._client.read("me")
        if not me.ok:
            return [findings.user(me)]
        reply = await self._settings()
        told = self._judged(reply, webhook_url)
        wrong = any(one.ok is False for one in told) and self._webhook_token
        # What cannot be seen is not written over either.
        free = reply.ok and (replace or not findings.foreign(findings.settings_of(reply), webhook_url))
        if wrong and free:
            told = await self._set_webhook(webhook_url, told, dry_run=dry_run)
        found = await self._integration(webhook_url)
        if found.ok is False and found.seen.startswith("none "):
            username = text(me.document.get("username")) or ""
            found = await self._make_integration(webhook_url, username, found, dry_run=dry_run)
        return [*told, found]

    async def create_user(self, *, name: str, email: str, username: str, adopt: bool = True) -> str | Refusal:
        return await create_user(
            self._client, name=name, email=email, username=username, adopt=adopt, ours=self._ours
        )

    async def _version(self) -> Reply:
        """Older versions tell it under v1 only, newer ones outside of it only."""
        reply = await self._client.read("info", under="/api/")
        return reply if reply.ok else await self._client.read("info")

    # the omnichannel webhook -------------------------------------------------------------------------------

    async def _settings(self) -> Reply:
        return await self._client.read("livechat/integrations.settings")

    async def _webhook(self, url: str | None) -> list[Finding]:
        return self._judged(await self._settings(), url)

    def _judged(self, reply: Reply, url: str | None) -> list[Finding]:
        if not reply.ok:
            return [findings.unseen("webhook", reply, fatal=True)]
        return list(findings.webhook(findings.settings_of(reply), url, self._webhook_token))

    async def _set_webhook(self, url: str, before: Sequence[Finding], *, dry_run: bool) -> list[Finding]:
        if dry_run:
            return [_would(one) for one in before]
        body: dict[str, Any] = {
            "LivechatWebhookUrl": url,
            "LivechatSecretToken": self._webhook_token,
            "LivechatHttpTimeout": HTTP_TIMEOUT,
            **dict.fromkeys(findings.EVENTS.values(), True),
        }
        reply = await self._client.call("POST", "omnichannel/integrations", body=body)
        if not reply.ok:
            return [*before, findings.unseen("webhook", reply, fatal=True)]
        return _done(before, await self._webhook(url))

    # the integration of team rooms -------------------------------------------------------------------------

    async def _integration(self, url: str) -> Finding:
        found: list[Mapping[str, Any]] = []
        for _ in range(_PAGES):
            params = {"count": str(_PAGE), "offset": str(len(found))}
            reply = await self._client.read("integrations.list", params)
            if not reply.ok:
                return findings.unseen("integration", reply, fatal=bool(self._integration_token))
            page = [one for one in items(reply.document.get("integrations")) if isinstance(one, dict)]
            found += page
            total = reply.document.get("total")
            if not page or (isinstance(total, int) and len(found) >= total):
                break
        return findings.integration(found, url, self._integration_token)

    async def _make_integration(self, url: str, username: str, before: Finding, *, dry_run: bool) -> Finding:
        if dry_run:
            return _would(before)
        body = {
            "type": "webhook-outgoing",
            "name": NAME,
            "event": "sendMessage",
            "channel": ",".join(findings.CHANNELS),
            "urls": [url],
            "token": self._integration_token,
            "username": username,
            "enabled": True,
            "scriptEnabled": False,
        }
        reply = await self._client.call("POST", "integrations.create", body=body)
        if not reply.ok:
            return findings.unseen("integration", reply, fatal=True)
        return _done([before], [await self._integration(url)])[0]


def _would(before: Finding) -> Finding:
    return (
        before
        if before.ok is not False
        else changed(before, ok=None, seen=f"would be set: {before.seen}", mend="")
    )


def _done(before: Sequence[Finding], after: Sequence[Finding]) -> list[Finding]:
    """What stands now, and of what had to change, what it was."""
    was = {one.name: one.seen for one in before if one.ok is False}
    return [
        changed(one, seen=f"set: {one.seen} (was: {was[one.name]})") if one.ok and one.name in was else one
        for one in after
    ]
