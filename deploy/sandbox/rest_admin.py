"""REST methods about users, permissions, settings and integrations."""

from dataclasses import replace
from typing import Any

from deploy.sandbox.calls import Call, Failed, Routes
from deploy.sandbox.configuration import Configuration
from deploy.sandbox.record import now
from deploy.sandbox.workspace import Document, Workspace, author, new_id

_TOTP: Document = {"method": "totp", "codeGenerated": False, "availableMethods": ["totp"]}
_EVENTS = (
    "Start",
    "Close",
    "ChatTaken",
    "ChatQueued",
    "Forward",
    "OfflineMsg",
    "VisitorMessage",
    "AgentMessage",
)
_SETTINGS: dict[str, Any] = {
    "Livechat_enabled": True,
    "Livechat_http_timeout": 5000,
    "API_Enable_Rate_Limiter": True,
    "API_Enable_Rate_Limiter_Limit_Calls_Default": 10,
    "API_Enable_Rate_Limiter_Limit_Time_Default": 60000,
    "Message_MaxAllowedSize": 5000,
    "Message_AllowEditing": True,
    "FileUpload_Enabled": True,
    "FileUpload_ProtectFiles": True,
}
_INTEGRATION = frozenset({"webhook-incoming", "webhook-outgoing"})
_PERMISSIONS = (
    "access-permissions", "api-bypass-rate-limit", "close-livechat-room", "close-others-livechat-room", "create-user",
    "manage-outgoing-integrations", "message-impersonate", "view-full-other-user-info", "view-l-room", "view-livechat-manager",
    "view-livechat-rooms", "view-privileged-setting",
)  # fmt: skip


class Admin:
    """What is set here is what the workspace then does, until the sandbox is reset."""

    def __init__(self, config: Configuration, workspace: Workspace) -> None:
        self._config, self._workspace = config, workspace
        self.routes: Routes = {
            ("GET", "info"): lambda _: {"info": {"version": config.rocketchat.version}},
            ("GET", "me"): lambda call: dict(call.user),
            ("GET", "users.info"): self._user,
            ("POST", "users.create"): self._create_user,
            ("GET", "permissions.listAll"): self._permissions,
            ("GET", "settings"): self._setting,
            ("POST", "settings"): self._set_setting,
            ("GET", "livechat/integrations.settings"): self._livechat_settings,
            ("POST", "omnichannel/integrations"): self._set_webhook,
            ("GET", "integrations.list"): self._integrations,
            ("POST", "integrations.create"): self._create_integration,
        }

    # users ---------------------------------------------------------------------------------------------------

    def _user(self, call: Call) -> Document:
        user = self._workspace.find_user(call.text("userId"), call.text("username"), call.text("email"))
        if user is None:
            raise Failed("User not found.", "error-invalid-user")
        return {"user": user}

    def _create_user(self, call: Call) -> Document:
        call.needs("name", "email", "password", "username")
        self._second_factor(call)
        if self._config.rocketchat.users_create == "licence":
            raise Failed(
                "The maximum number of users allowed by the license has been reached.",
                "error-license-user-limit-reached",
            )
        email, username = call.text("email"), call.text("username")
        if "@" not in email:
            raise Failed(f"Invalid email {email}", "error-invalid-email", {"method": "insertOrUpdateUser"})
        for field, value, taken in (
            ("username", username, self._workspace.find_user(None, username)),
            ("email", email, self._workspace.find_user(None, None, email)),
        ):
            if taken:
                details = {"method": "insertOrUpdateUser", "field": field}
                raise Failed(f"{value} is already in use :(", "error-field-unavailable", details)
        user = self._workspace.add_user(new_id(), username, call.text("name"), "user")
        user["emails"] = [{"address": email, "verified": call.given.get("verified") is True}]
        user["roles"] = list(call.given.get("roles") or ["user"])
        return {"user": user}

    def _second_factor(self, call: Call) -> None:
        settings = self._config.rocketchat
        if settings.users_create != "totp":
            return
        code = call.headers.get("x-2fa-code")
        if code is None:
            raise Failed("TOTP Required", "totp-required", _TOTP)
        if code != settings.totp_code:
            raise Failed("TOTP Invalid", "totp-invalid", {"method": "totp"})

    # settings ------------------------------------------------------------------------------------------------

    def _permissions(self, _: Call) -> Document:
        granted = self._config.rocketchat.permissions
        if granted is None:
            granted = {name: ["admin", "livechat-manager", "bot"] for name in _PERMISSIONS}
        update = [{"_id": name, "_updatedAt": now(), "roles": roles} for name, roles in granted.items()]
        return {"update": update, "remove": []}

    def _values(self) -> dict[str, Any]:
        settings = self._config.rocketchat
        events = {f"Livechat_webhook_on_{_snake(name)}": True for name in _EVENTS}
        webhook = {
            "Livechat_webhookUrl": settings.webhook_url,
            "Livechat_secret_token": settings.webhook_token,
        }
        return {**_SETTINGS, **events, **settings.settings, **webhook}

    def _setting(self, call: Call) -> Document:
        values = self._values()
        name = call.tail[0]
        return {"_id": name, "value": values[name]} if name in values else {}

    def _set_setting(self, call: Call) -> Document:
        self._second_factor(call)
        if call.tail[0] not in self._values():
            raise Failed("Setting not found", "error-invalid-setting")
        self._set({call.tail[0]: call.given.get("value")})
        return {}

    def _livechat_settings(self, _: Call) -> Document:
        shown = [
            {"_id": name, "value": value}
            for name, value in self._values().items()
            if name.startswith("Livechat_")
        ]
        return {"settings": shown}

    def _set_webhook(self, call: Call) -> Document:
        names = {"LivechatWebhookUrl": "Livechat_webhookUrl", "LivechatSecretToken": "Livechat_secret_token",
                 "LivechatHttpTimeout": "Livechat_http_timeout"}  # fmt: skip
        names |= {f"LivechatWebhookOn{name}": f"Livechat_webhook_on_{_snake(name)}" for name in _EVENTS}
        self._set({names[key]: value for key, value in call.given.items() if key in names})
        return {}

    def _set(self, values: dict[str, Any]) -> None:
        old, rest = self._config.rocketchat, dict(values)
        self._config.rocketchat = replace(
            old,
            webhook_url=str(rest.pop("Livechat_webhookUrl", old.webhook_url)),
            webhook_token=str(rest.pop("Livechat_secret_token", old.webhook_token)),
            settings=old.settings | rest,
        )

    # integrations --------------------------------------------------------------------------------------------

    def _integrations(self, call: Call) -> Document:
        found = [
            one for one in self._workspace.integrations.values()
            if all(one.get(key) == call.given[key] for key in ("name", "type") if key in call.given)
        ]  # fmt: skip
        offset, count = call.number("offset", 0), call.number("count", 50)
        page = found[offset : offset + count] if count else found[offset:]
        return {"integrations": page, "offset": offset, "items": len(page), "total": len(found)}

    def _create_integration(self, call: Call) -> Document:
        call.needs("type", "username", "name")
        if call.given["type"] not in _INTEGRATION:
            raise Failed("Invalid integration type.", "error-invalid-integration-type")
        if call.given["type"] == "webhook-outgoing":
            call.needs("event", "urls")
        if self._workspace.find_user(None, call.text("username")) is None:
            raise Failed("Invalid user", "error-invalid-user")
        channel = call.given.get("channel") or []
        made = {
            "scriptEnabled": False,
            "enabled": True,
            **call.given,
            "channel": channel.split(",") if isinstance(channel, str) else channel,
            "token": call.text("token") or new_id() + new_id(),
            "userId": call.user["_id"],
            "_createdAt": now(),
            "_createdBy": author(call.user),
            "_id": new_id(),
        }
        self._workspace.integrations[made["_id"]] = made
        return {"integration": made}


def _snake(name: str) -> str:
    """ChatTaken → chat_taken, as in the ids of the settings."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
