"""Checking and setting up a workspace, and making users, over a real socket."""

import hashlib
from collections.abc import Mapping
from typing import Any

import pytest

from adapters.rocketchat.admin import Admin
from adapters.rocketchat.admin.findings import CHANNELS, EVENTS
from adapters.rocketchat.rest import RocketChatRest
from router.domain.ports import NOT_THEIRS, Finding, Refusal, RocketChatAdmin
from tests.integration.adapters.rocketchat.workspace import Call, Workspace, failure

URL = "https://figueira.example/webhooks/rocketchat"
SECRET, TOKEN = "segredo-do-webhook", "token-da-integracao"
NEEDED = (
    "view-l-room", "view-livechat-rooms", "close-livechat-room", "close-others-livechat-room", "view-livechat-manager",
    "create-user", "view-full-other-user-info", "manage-own-outgoing-integrations", "api-bypass-rate-limit", "view-privileged-setting",
)  # fmt: skip
LOGGED_OUT_7 = (401, {"status": "error", "message": "You must be logged in to do this."})
LOGGED_OUT_8 = (401, {"success": False, "error": "You must be logged in to do this."})
FORBIDDEN_7 = (403, {"success": False, "error": "unauthorized"})
FORBIDDEN_8 = failure("error-forbidden", "User does not have the permissions required for this action", 403)
TOO_MANY = (
    429,
    {"success": False, "error": "Error, too many requests. Please slow down. You must wait 23 seconds before trying this endpoint again. [error-too-many-requests]"},
)  # fmt: skip
TOTP = failure("totp-required", "TOTP Required", details={"method": "totp", "codeGenerated": False})


class State:
    """What the workspace has set; all as it should be."""

    def __init__(self, workspace: Workspace) -> None:
        self.settings: dict[str, Any] = {
            "Livechat_webhookUrl": f"{URL}/",
            "Livechat_secret_token": SECRET,
            **dict.fromkeys(EVENTS, True),
        }
        self.permissions = set(NEEDED)
        self.integrations: list[dict[str, Any]] = [integration()]
        workspace.routes |= {
            "GET info": lambda _: {"version": "8.1.0", "success": True},
            "GET v1/me": lambda _: {"_id": "u1", "username": "figueira", "roles": ["bot", "figueira"]},
            "GET v1/permissions.listAll": lambda _: {"update": self.granted(), "remove": [], "success": True},
            "GET v1/livechat/integrations.settings": lambda _: {"settings": self.listed(), "success": True},
            "GET v1/integrations.list": self.page,
            "GET v1/settings/": lambda _: {"_id": "API_Enable_Rate_Limiter", "value": True, "success": True},
            "POST v1/omnichannel/integrations": self.set,
            "POST v1/integrations.create": self.create,
        }

    def granted(self) -> list[dict[str, Any]]:
        roles = {name: ["figueira"] for name in self.permissions} | {"add-user": ["admin"]}
        return [{"_id": name, "roles": given} for name, given in roles.items()]

    def listed(self) -> list[dict[str, Any]]:
        return [{"_id": name, "value": value} for name, value in self.settings.items()]

    def page(self, call: Call) -> Any:
        first = int(call.query["offset"])
        return {"integrations": self.integrations[first : first + 1], "total": len(self.integrations), "success": True}  # fmt: skip

    def set(self, call: Call) -> Any:
        body = dict(call.body)
        self.settings["Livechat_webhookUrl"] = body.pop("LivechatWebhookUrl")
        self.settings["Livechat_secret_token"] = body.pop("LivechatSecretToken")
        assert body.pop("LivechatHttpTimeout") == 5000
        self.settings |= {setting: body.pop(theirs) for setting, theirs in EVENTS.items()}
        assert body == {}  # the schema allows no other
        return {"success": True}

    def create(self, call: Call) -> Any:
        made = dict(call.body)
        self.integrations.append({**made, "channel": made["channel"].split(","), "_id": "i9"})
        return {"integration": self.integrations[-1], "success": True}


def integration(**more: Any) -> dict[str, Any]:
    return {
        "_id": "i1", "type": "webhook-outgoing", "enabled": True, "event": "sendMessage", "token": TOKEN,
        "urls": [URL], "channel": list(CHANNELS), **more,
    }  # fmt: skip


@pytest.fixture
def state(workspace: Workspace) -> State:
    return State(workspace)


@pytest.fixture
def admin(rest: RocketChatRest) -> RocketChatAdmin:
    return Admin(rest.client, webhook_token=SECRET, integration_token=TOKEN)


async def checked(admin: RocketChatAdmin, url: str | None = URL) -> Mapping[str, Finding]:
    found = await admin.check(url)
    assert len({one.name for one in found}) == len(found)
    assert SECRET not in repr(found)
    assert TOKEN not in repr(found)
    assert all(one.mend for one in found if not one.ok)
    return {one.name: one for one in found}


# check -----------------------------------------------------------------------------------------------------


async def test_all_is_well(admin: RocketChatAdmin, state: State) -> None:
    found = await checked(admin)
    assert {name for name, one in found.items() if one.ok is not True} == {"forwarded_count"}
    assert found["forwarded_count"].ok is None
    assert found["version"].seen == "8.1.0"
    assert found["user"].seen == "figueira (bot, figueira)"


@pytest.mark.parametrize("missing", [name for name in NEEDED if name != "api-bypass-rate-limit"])
async def test_a_missing_permission_is_named(admin: RocketChatAdmin, state: State, missing: str) -> None:
    state.permissions.discard(missing)
    found = [one for one in (await checked(admin)).values() if one.ok is False]
    assert len(found) == 1
    assert missing in found[0].mend


async def test_the_rate_limit(admin: RocketChatAdmin, state: State, workspace: Workspace) -> None:
    state.permissions.discard("api-bypass-rate-limit")
    found = await checked(admin)
    assert (found["rate_limit"].ok, found["rate_limit"].seen) == (False, "on")
    limits = {"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "9", "X-RateLimit-Reset": "1770033640000"}
    workspace.routes["GET v1/settings/"] = lambda _: FORBIDDEN_8
    assert (await checked(admin))["rate_limit"].ok is None
    workspace.routes["GET v1/me"] = lambda _: (200, {"username": "figueira", "roles": []}, limits)
    assert "10 calls a minute" in (await checked(admin))["rate_limit"].seen
    workspace.routes["GET v1/settings/"] = lambda _: {"value": False, "success": True}
    assert (await checked(admin))["rate_limit"].ok is True


@pytest.mark.parametrize(
    ("setting", "value", "name"),
    [
        ("Livechat_webhookUrl", "", "webhook_url"),
        ("Livechat_webhookUrl", "https://crm.example/hook?key=abc", "webhook_url"),
        ("Livechat_secret_token", "", "webhook_secret"),
        ("Livechat_secret_token", "outro", "webhook_secret"),
        *((event, False, "webhook_events") for event in EVENTS),
    ],
)
async def test_a_webhook_that_is_not_right(
    admin: RocketChatAdmin, state: State, setting: str, value: Any, name: str
) -> None:
    state.settings[setting] = value
    wrong = [one for one in (await checked(admin)).values() if one.ok is False]
    assert [one.name for one in wrong] == [name]
    assert "abc" not in wrong[0].seen
    if name == "webhook_events":
        assert setting in wrong[0].seen


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], "none posts"),
        ([integration(urls=["https://crm.example"])], "none posts"),
        ([integration(type="webhook-incoming")], "none posts"),
        ([integration(enabled=False)], "disabled"),
        ([integration(token="other")], "token"),
        ([integration(event="roomCreated")], "event"),
        ([integration(channel=["#general"])], "all_private_groups"),
    ],
)
async def test_an_integration_that_is_not_right(
    admin: RocketChatAdmin, state: State, found: list[dict[str, Any]], said: str
) -> None:
    state.integrations = found
    one = (await checked(admin))["integration"]
    assert one.ok is False
    assert said in one.seen


async def test_the_right_one_among_several(admin: RocketChatAdmin, state: State) -> None:
    state.integrations = [integration(enabled=False), *[integration(urls=["x"])] * 3, integration()]
    assert (await checked(admin))["integration"].ok is True


async def test_without_our_own_tokens(rest: RocketChatRest, state: State) -> None:
    found = await checked(Admin(rest.client, webhook_token=None, integration_token=None))
    assert (found["webhook_secret"].ok, found["integration"].ok) == (False, None)


async def test_without_our_own_address(admin: RocketChatAdmin, state: State) -> None:
    found = await checked(admin, None)
    assert {"webhook_url", "integration"} & set(found) == set()
    assert found["webhook_secret"].ok


@pytest.mark.parametrize("told", [LOGGED_OUT_7, LOGGED_OUT_8])
async def test_a_token_that_is_not_accepted(
    admin: RocketChatAdmin, state: State, workspace: Workspace, told: Any
) -> None:
    workspace.routes["GET v1/me"] = lambda _: told
    found = await checked(admin)
    assert set(found) == {"version", "user", "forwarded_count"}
    assert found["user"].ok is False
    assert "personal access token" in found["user"].mend


@pytest.mark.parametrize("told", [FORBIDDEN_7, FORBIDDEN_8, TOO_MANY, (502, {}), None])
async def test_what_may_not_be_seen(
    admin: RocketChatAdmin, state: State, workspace: Workspace, told: Any
) -> None:
    for route in ("permissions.listAll", "livechat/integrations.settings", "integrations.list", "settings/"):
        workspace.routes[f"GET v1/{route}"] = lambda _: told
    found = await checked(admin)
    assert (found["permissions"].ok, found["webhook"].ok, found["integration"].ok) == (None, False, False)


async def test_nobody_there(admin: RocketChatAdmin) -> None:
    found = await checked(admin)
    assert found["user"].ok is False


async def test_an_older_version_tells_it_elsewhere(
    admin: RocketChatAdmin, state: State, workspace: Workspace
) -> None:
    del workspace.routes["GET info"]
    workspace.routes["GET v1/info"] = lambda _: {"info": {"version": "3.18.2"}, "success": True}
    assert (await checked(admin))["version"].seen == "3.18.2"


# setup -----------------------------------------------------------------------------------------------------


async def test_setup_of_a_fresh_workspace(admin: RocketChatAdmin, state: State, workspace: Workspace) -> None:
    state.settings = {"Livechat_webhookUrl": "", "Livechat_secret_token": ""}
    state.integrations = []
    forecast = await admin.setup(URL, dry_run=True)
    assert [one.ok for one in forecast] == [None] * 4
    assert all(one.seen.startswith("would be set") for one in forecast)
    assert all(call.route.startswith("GET") for call in workspace.calls)
    done = await admin.setup(URL, dry_run=False)
    assert [one.ok for one in done] == [True] * 4
    assert all(one.seen.startswith("set: ") for one in done)
    (made,) = workspace.to("POST v1/integrations.create")
    assert made.body == {
        "type": "webhook-outgoing", "name": "Figueira", "event": "sendMessage", "channel": ",".join(CHANNELS),
        "urls": [URL], "token": TOKEN, "username": "figueira", "enabled": True, "scriptEnabled": False,
    }  # fmt: skip
    assert SECRET not in repr(done)
    again = await admin.setup(URL, dry_run=False)
    assert [one.seen.startswith("set: ") for one in again] == [False] * 4
    assert len([call for call in workspace.calls if call.route.startswith("POST")]) == 2


async def test_setup_leaves_another_systems_webhook(
    admin: RocketChatAdmin, state: State, workspace: Workspace
) -> None:
    state.settings |= {"Livechat_webhookUrl": "https://crm.example/hook?key=abc", "Livechat_secret_token": ""}
    for dry_run in (True, False):
        found = {one.name: one for one in await admin.setup(URL, dry_run=dry_run)}
        assert found["webhook_url"].ok is False
        assert "https://crm.example/hook," in found["webhook_url"].seen
        assert "setup --replace" in found["webhook_url"].mend
    assert not [call for call in workspace.calls if call.route.startswith("POST")]
    forecast = (await admin.setup(URL, dry_run=True, replace=True))[0]
    assert "would be set: https://crm.example/hook," in forecast.seen
    done = (await admin.setup(URL, dry_run=False, replace=True))[0]
    assert "was: https://crm.example/hook," in done.seen
    assert state.settings["Livechat_webhookUrl"] == URL


async def test_setup_writes_nothing_over_what_it_cannot_see(
    admin: RocketChatAdmin, state: State, workspace: Workspace
) -> None:
    workspace.routes["GET v1/livechat/integrations.settings"] = lambda _: (502, {})
    assert (await admin.setup(URL, dry_run=False, replace=True))[0].ok is False
    assert workspace.to("POST v1/omnichannel/integrations") == []
    assert await admin.standing() is None


async def test_what_stands_there_without_its_secrets(admin: RocketChatAdmin, state: State) -> None:
    state.settings = {
        "Livechat_webhookUrl": "https://ana:senha@crm.example/hook?key=abc", "Livechat_secret_token": "deles",
        "Livechat_http_timeout": 3000, "Livechat_webhook_on_close": True, "Livechat_webhook_on_start": False,
    }  # fmt: skip
    assert await admin.standing() == {
        "url": "https://crm.example/hook", "shortened": True, "events": ["Livechat_webhook_on_close"], "timeout": 3000,
    }  # fmt: skip
    state.settings = {"Livechat_webhookUrl": ""}
    assert await admin.standing() == {"url": None, "shortened": False, "events": [], "timeout": None}


async def test_setup_makes_no_second_integration(
    admin: RocketChatAdmin, state: State, workspace: Workspace
) -> None:
    state.integrations = [integration(enabled=False)]
    found = (await admin.setup(URL, dry_run=False))[-1]
    assert (found.ok, workspace.to("POST v1/integrations.create")) == (False, [])


async def test_setup_that_is_refused(admin: RocketChatAdmin, state: State, workspace: Workspace) -> None:
    state.settings["Livechat_webhookUrl"] = ""
    state.integrations = []
    workspace.routes["POST v1/omnichannel/integrations"] = lambda _: FORBIDDEN_8
    workspace.routes["POST v1/integrations.create"] = lambda _: FORBIDDEN_7
    found = await admin.setup(URL, dry_run=False)
    assert [one.name for one in found if one.ok is False] == ["webhook_url", "webhook", "integration"]


async def test_setup_without_a_secret_of_ours_sets_none(
    rest: RocketChatRest, state: State, workspace: Workspace
) -> None:
    state.settings["Livechat_webhookUrl"] = ""
    bare = Admin(rest.client, webhook_token=None, integration_token=None)
    found = await bare.setup(URL, dry_run=False)
    assert any("webhook_token" in one.seen for one in found if one.ok is False)
    assert not [call for call in workspace.calls if call.route.startswith("POST")]


# users -----------------------------------------------------------------------------------------------------

ANA: dict[str, Any] = {"name": "Ana", "email": "Ana@example.org", "username": "ana"}
NOBODY = (400, {"success": False, "error": "User not found."})
UNKNOWN_KEY = failure(
    "error-user-param-not-provided", 'The required "userId" or "username" param was not provided'
)
TAKEN = failure("error-field-unavailable", "<strong>x</strong> is already in use :(")


def people(workspace: Workspace, *users: dict[str, Any], by_email: bool = True) -> None:
    """Rocket.Chat's users; without `by_email` as before 8.4."""

    def info(call: Call) -> Any:
        if "email" in call.query and not by_email:
            return UNKNOWN_KEY
        for user in users:
            addresses = [one["address"].lower() for one in user.get("emails", [])]
            if (
                call.query.get("email", "").lower() in addresses
                or call.query.get("username") == user["username"]
            ):
                return {"user": user, "success": True}
        return NOBODY

    workspace.routes["GET v1/users.info"] = info


def person(user_id: str, username: str, *addresses: str, **more: Any) -> dict[str, Any]:
    emails = [{"address": one} for one in addresses]
    return {"_id": user_id, "username": username, "emails": emails, "type": "user", "roles": ["user"], **more}


async def test_who_is_there_is_not_made_again(admin: RocketChatAdmin, workspace: Workspace) -> None:
    people(workspace, person("rc1", "aninha", "ana@example.org"))
    assert await admin.create_user(**ANA) == "rc1"
    assert workspace.to("POST v1/users.create") == []


async def test_who_is_not_is_made(admin: RocketChatAdmin, workspace: Workspace) -> None:
    people(workspace)
    workspace.routes["POST v1/users.create"] = lambda call: {"user": {"_id": "rc9"}, "success": True}
    assert await admin.create_user(**ANA) == "rc9"
    (made,) = workspace.to("POST v1/users.create")
    password = made.body["password"]
    assert len(password) >= 32
    assert {**made.body, "password": None} == {
        "name": "Ana", "email": "Ana@example.org", "username": "ana", "password": None, "roles": ["user"],
        "verified": True, "active": True, "requirePasswordChange": False, "sendWelcomeEmail": False,
        "joinDefaultChannels": False,
    }  # fmt: skip


DIGEST = hashlib.sha256(b"ana@example.org").hexdigest()[:10]


async def test_a_taken_user_name_gets_a_suffix_of_the_email(
    admin: RocketChatAdmin, workspace: Workspace
) -> None:
    people(workspace, person("rc1", "ana", "other@example.org"), by_email=False)
    made = {"user": {"_id": "rc9"}, "success": True}
    workspace.routes["POST v1/users.create"] = lambda call: TAKEN if call.body["username"] == "ana" else made
    assert await admin.create_user(**ANA) == "rc9"
    names = [call.body["username"] for call in workspace.to("POST v1/users.create")]
    assert names == ["ana", f"ana-{DIGEST}"]
    people(workspace, person("rc1", "ana"), person("rc9", names[1], "ana@example.org"), by_email=False)
    workspace.routes["POST v1/users.create"] = lambda _: TAKEN
    assert await admin.create_user(**ANA) == "rc9"  # a repeat finds it


async def test_as_many_of_one_name_as_there_are(admin: RocketChatAdmin, workspace: Workspace) -> None:
    there: list[dict[str, Any]] = []

    def create(call: Call) -> Any:
        if any(one["username"] == call.body["username"] for one in there):
            return TAKEN
        there.append(person(f"rc{len(there)}", call.body["username"], call.body["email"]))
        people(workspace, *there)
        return {"user": there[-1], "success": True}

    people(workspace)
    workspace.routes["POST v1/users.create"] = create
    made = [await admin.create_user(**{**ANA, "email": f"ana@{n}.example"}) for n in range(12)]
    assert made == [f"rc{n}" for n in range(12)]


async def test_both_names_taken(admin: RocketChatAdmin, workspace: Workspace) -> None:
    people(workspace, person("rc1", "ana"), person("rc2", f"ana-{DIGEST}"))
    workspace.routes["POST v1/users.create"] = lambda _: TAKEN
    refusal = await admin.create_user(**ANA)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "invalid"
    assert len(workspace.to("POST v1/users.create")) == 2


@pytest.mark.parametrize(
    ("more", "code"),
    [
        *(({"roles": ["user", role]}, "not_a_patient") for role in ("admin", "livechat-agent", "livechat-manager", "bot")),
        *(({"type": kind}, "not_a_patient") for kind in ("bot", "app")),
        *(({"_id": whose}, "not_a_patient") for whose in ("u1", "bot-1")),
        ({"roles": None}, "forbidden"),
        ({"roles": ["user", "guest", "anonymous", "livechat-guest"]}, None),
        ({"type": None}, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("by_email", [True, False])
async def test_whoever_is_more_than_a_patient_is_none(
    rest: RocketChatRest, workspace: Workspace, more: dict[str, Any], code: str | None, by_email: bool
) -> None:
    ours = Admin(rest.client, webhook_token=None, integration_token=None, bot_user_id="bot-1")
    people(workspace, person("rc1", "ana", "ana@example.org") | more, by_email=by_email)
    workspace.routes["POST v1/users.create"] = lambda _: TAKEN
    made = await ours.create_user(**ANA)
    assert (made.code if isinstance(made, Refusal) else None) == code
    assert isinstance(made, Refusal) or made == "rc1"


async def test_who_was_there_is_not_adopted(admin: RocketChatAdmin, workspace: Workspace) -> None:
    people(workspace, person("rc1", "aninha", "ana@example.org"))
    assert await admin.create_user(**ANA, adopt=False) == NOT_THEIRS
    people(workspace, person("rc1", "ana", "ana@example.org"))
    assert await admin.create_user(**ANA, adopt=False) == "rc1"


async def test_before_8_4_it_is_found_by_its_name(admin: RocketChatAdmin, workspace: Workspace) -> None:
    people(workspace, person("rc1", "ana", "ana@example.org"), by_email=False)
    workspace.routes["POST v1/users.create"] = lambda _: TAKEN
    assert await admin.create_user(**ANA) == "rc1"


async def test_an_email_that_nobody_can_be_found_by(admin: RocketChatAdmin, workspace: Workspace) -> None:
    people(workspace, by_email=False)
    workspace.routes["POST v1/users.create"] = lambda _: TAKEN
    refusal = await admin.create_user(**ANA)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, "e-mail" in refusal.detail) == ("invalid", True)


async def test_an_answer_that_was_lost(admin: RocketChatAdmin, workspace: Workspace) -> None:
    made: list[dict[str, Any]] = []

    def create(call: Call) -> None:
        made.append(person("rc9", call.body["username"], call.body["email"]))
        people(workspace, *made, by_email=False)

    people(workspace, by_email=False)
    workspace.routes["POST v1/users.create"] = create
    assert await admin.create_user(**ANA) == "rc9"
    assert len(made) == 1


@pytest.mark.parametrize(
    ("told", "code"),
    [
        (TOTP, "two_factor"),
        (failure("totp-invalid", "TOTP Invalid"), "two_factor"),
        (failure("error-license-user-limit-reached", "License user limit reached"), "licence_limit"),
        ((400, {"success": False, "error": "error-seats-limit"}), "licence_limit"),
        (FORBIDDEN_7, "forbidden"),
        (FORBIDDEN_8, "forbidden"),
        (failure("error-action-not-allowed", "Adding user is not allowed"), "forbidden"),
        (LOGGED_OUT_7, "unauthorized"),
        (LOGGED_OUT_8, "unauthorized"),
        (TOO_MANY, "rate_limited"),
        ((502, {}), "unreachable"),
        ((503, {}), "unreachable"),
        (None, "unreachable"),
        (failure("error-invalid-email", "Invalid email ana@example.org"), "invalid"),
        (failure("invalid-params", "must have required property"), "invalid"),
    ],
)
async def test_refusals_are_typed(admin: RocketChatAdmin, workspace: Workspace, told: Any, code: str) -> None:
    people(workspace)
    workspace.routes["POST v1/users.create"] = lambda _: told
    refusal = await admin.create_user(**ANA)
    assert isinstance(refusal, Refusal)
    assert refusal.code == code
    assert "example.org" not in refusal.detail
    assert len(workspace.to("POST v1/users.create")) == 1
    workspace.calls.clear()
    if code != "invalid":
        workspace.routes["GET v1/users.info"] = lambda _: told
        early = await admin.create_user(**ANA)
        assert isinstance(early, Refusal)
        assert (early.code, workspace.to("POST v1/users.create")) == (code, [])
