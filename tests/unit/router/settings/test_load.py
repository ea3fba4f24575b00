import dataclasses
from pathlib import Path

import pytest

from router.domain.errors import ConfigurationError
from router.domain.policy import Policy
from router.settings import RoomSource, Settings, load

KINDS = ("whatsapp", "telegram", "webchat")
SECRET = "s3cret-" * 6
OUTSIDE = {"FIGUEIRA_DATABASE_URL": "postgresql://u:hunter2@db/f"}

FULL = """
public_url = "https://figueira.example"
trusted_proxies = "10.0.0.0/8, ::1"

[rocketchat]
base_url = "https://chat.example/"
user_id = "env:RC_USER"
auth_token = "env:RC_TOKEN"
bot_user_id = "bot1"
webhook_token = "hook-token"
integration_token = "file:{file}"
sources = {{ "App1" = "whatsapp", "App2" = {{ channel = "chat", department = "vendas" }} }}

[channels.whatsapp]
kind = "whatsapp"
tenant = "clinica-sol"
assistant = "enrich"
on_rocketchat_down = "native"
first_contact = "native"
idle_hours = 12
[channels.whatsapp.native]
phone_number_id = "123"
app_secret = "env:META"
port = 587
tls = true
[channels.whatsapp.rocketchat]
webhook_url = "https://chat.example/api/apps/public/x/webhook"

[channels.chat]
kind = "webchat"
tenant = "clinica-sol"
[channels.chat.native]
origins = ["https://a.example", "https://b.example"]

[delivery]
unknown_after_seconds = 60
max_attempts = 3
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "figueira.toml"
    path.write_text(text)
    return path


def read(folder: Path, text: str, environ: dict[str, str] | None = None) -> Settings:
    environ = {"FIGUEIRA_HOME": str(folder / "home"), **(environ or {})}
    return load(environ, write(folder, text), kinds=KINDS)


@pytest.fixture
def full(tmp_path: Path) -> Settings:
    token = tmp_path / "token"
    token.write_text("integration-token\n")
    environ = {
        "RC_USER": "rc-user",
        "RC_TOKEN": "rc-token",
        "META": "meta-secret",
        "FIGUEIRA_SECRET_KEY": SECRET,
    }
    return read(tmp_path, FULL.format(file=token), environ)


def test_everything_is_read(full: Settings, tmp_path: Path) -> None:
    assert full.rocketchat is not None
    assert full.rocketchat.base_url == "https://chat.example"
    assert (full.rocketchat.user_id, full.rocketchat.auth_token) == ("rc-user", "rc-token")
    assert full.rocketchat.integration_token == "integration-token"
    assert full.rocketchat.sources == {"App1": RoomSource("whatsapp"), "App2": RoomSource("chat", "vendas")}
    whatsapp = full.channels["whatsapp"]
    assert (whatsapp.slug, whatsapp.kind, whatsapp.tenant) == ("whatsapp", "whatsapp", "clinica-sol")
    assert (whatsapp.on_rocketchat_down, whatsapp.first_contact, whatsapp.idle_hours) == (
        "native",
        "native",
        12,
    )
    assert whatsapp.native == {
        "phone_number_id": "123",
        "app_secret": "meta-secret",
        "port": "587",
        "tls": "true",
    }
    assert whatsapp.can_divide
    assert whatsapp.webhook_url == "https://chat.example/api/apps/public/x/webhook"
    chat = full.channels["chat"]
    assert chat.native == {"origins": "https://a.example https://b.example"}
    assert (chat.webhook_url, chat.on_rocketchat_down, chat.first_contact, chat.idle_hours) == (
        None,
        "hold",
        "pin",
        24,
    )
    assert full.assistants == {"whatsapp": "enrich", "chat": "off"}
    assert full.policy == Policy(unknown_after_seconds=60, max_attempts=3)
    assert [str(network) for network in full.trusted_proxies] == ["10.0.0.0/8", "::1/128"]
    assert (full.public_url, full.flags, full.log_format) == ("https://figueira.example", "local", "json")
    assert full.home == tmp_path / "home"


def test_nothing_secret_is_in_a_repr(full: Settings) -> None:
    shown = repr(full) + str(full) + repr(full.keys) + repr(full.rocketchat) + repr(full.channels)
    cohort = full.keys.cohort.decode()
    for secret in ("rc-user", "rc-token", "hook-token", "integration-token", "meta-secret", SECRET, cohort):
        assert secret not in shown
    outside = load(
        {**OUTSIDE, "FIGUEIRA_SECRET_KEY": SECRET, "FIGUEIRA_COHORT_KEY": "cohort-word", "FIGUEIRA_FLAGS": "unleash",
         "FIGUEIRA_UNLEASH_URL": "http://u", "FIGUEIRA_UNLEASH_TOKEN": "*:prod.tok", "FIGUEIRA_OPENAI_API_KEY": "sk-1",
         "FIGUEIRA_BROKER_URL": "amqp://u:rabbit@h", "FIGUEIRA_UNLEASH_ADMIN_TOKEN": "adm-tok"},
        None, kinds=KINDS,
    )  # fmt: skip
    assert (outside.openai_api_key, outside.unleash_url) == ("sk-1", "http://u")
    for secret in ("hunter2", "prod.tok", "sk-1", "rabbit", "adm-tok", "cohort-word", SECRET):
        assert secret not in repr(outside)


# where it comes from ---------------------------------------------------------------------------------------


def test_the_environment_wins_and_an_empty_variable_is_unset(tmp_path: Path) -> None:
    text = 'public_url = "https://file.example"\nlog_format = "console"'
    found = read(tmp_path, text, {"FIGUEIRA_PUBLIC_URL": "https://env.example", "FIGUEIRA_LOG_FORMAT": ""})
    assert (found.public_url, found.log_format) == ("https://env.example", "console")


def test_the_file_is_named_by_the_variable_or_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"FIGUEIRA_HOME": str(tmp_path / "home")}
    monkeypatch.chdir(tmp_path)
    assert load(environ, None, kinds=KINDS).log_format == "json"
    write(tmp_path, 'log_format = "console"')
    assert load(environ, None, kinds=KINDS).log_format == "console"
    other = tmp_path / "other.toml"
    other.write_text('log_format = "json"')
    assert load({**environ, "FIGUEIRA_CONFIG": str(other)}, None, kinds=KINDS).log_format == "json"
    with pytest.raises(ConfigurationError, match=r"gone\.toml cannot be read"):
        load({**environ, "FIGUEIRA_CONFIG": "gone.toml"}, None, kinds=KINDS)


# keys ------------------------------------------------------------------------------------------------------


def test_keys_are_made_once_for_their_owner_only(tmp_path: Path) -> None:
    first, second = read(tmp_path, ""), read(tmp_path, "")
    assert first.keys == second.keys
    assert first.keys.secret != first.keys.cohort
    for name in ("secret_key", "cohort_key"):
        assert (tmp_path / "home" / name).stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["cohort_key", "secret_key"]


@pytest.mark.parametrize("missing", ["FIGUEIRA_SECRET_KEY", "FIGUEIRA_COHORT_KEY"])
def test_with_an_outside_database_no_key_is_made(tmp_path: Path, missing: str) -> None:
    given = {**OUTSIDE, "FIGUEIRA_SECRET_KEY": SECRET, "FIGUEIRA_COHORT_KEY": "c" * 32}
    del given[missing]
    with pytest.raises(ConfigurationError, match=missing):
        read(tmp_path, "", given)
    assert not (tmp_path / "home").exists()


def test_settings_that_do_not_hold_make_no_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        read(tmp_path, "[delivery]\nmax_attempts = 0")
    assert not (tmp_path / "home").exists()


def test_a_short_key_is_refused_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="fewer than 32") as refused:
        read(tmp_path, "", {"FIGUEIRA_SECRET_KEY": "tiny-secret"})
    assert "tiny" not in str(refused.value)


def test_derived_keys_differ_by_purpose_and_never_hang_on_the_cohort_key(tmp_path: Path) -> None:
    given = {"FIGUEIRA_SECRET_KEY": SECRET, "FIGUEIRA_COHORT_KEY": "a" * 32}
    keys = read(tmp_path, "", given).keys
    derived = [keys.tombstone, keys.api_key_pepper, keys.session, keys.audit]
    assert len({*derived, keys.secret, keys.cohort}) == 6
    assert all(len(key) == 32 for key in derived)
    other = read(tmp_path, "", {**given, "FIGUEIRA_COHORT_KEY": "b" * 32}).keys
    assert other.tombstone == keys.tombstone


# what is refused -------------------------------------------------------------------------------------------

CHANNEL = '[channels.{slug}]\nkind = "whatsapp"\ntenant = "sol"\n'
ONE = CHANNEL.format(slug="wa")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour = 1", r"colour in .*figueira\.toml: there is no such key; known are"),
        ('logformat = "json"', "did you mean log_format"),
        (
            '[rocketchat]\nbase_url = "https://c"\nwebhok_token = "x"',
            r"rocketchat\.webhok_token.*did you mean webhook_t",
        ),
        ('[rocketchat]\nuser_id = "x"', r"rocketchat\.base_url.*missing"),
        ('[rocketchat]\nbase_url = "chat.example"', r"rocketchat\.base_url.*no http"),
        (
            '[rocketchat]\nbase_url = "https://c"\nsources = { "a" = "nowhere" }',
            r"sources\.a.*names no channel",
        ),
        (CHANNEL.format(slug="rocketchat"), "reserved"),
        (CHANNEL.format(slug="Wa"), "a slug has"),
        (CHANNEL.format(slug="wa-"), "a slug has"),
        (CHANNEL.format(slug='"a/b"'), "a slug has"),
        (
            '[channels.wa]\nkind = "fax"\ntenant = "sol"',
            r"channels\.wa\.kind.*one of telegram, webchat, whatsapp",
        ),
        ('[channels.wa]\ntenant = "sol"', r"channels\.wa\.kind"),
        ('[channels.wa]\nkind = "whatsapp"', r"channels\.wa\.tenant"),
        ('[channels.wa]\nkind = "whatsapp"\ntenant = "*"', r"channels\.wa\.tenant"),
        (ONE + 'tennant = "x"', r"channels\.wa\.tennant.*did you mean tenant"),
        (ONE + 'assistant = "on"', r"channels\.wa\.assistant.*off, enrich, reply"),
        (ONE + 'on_rocketchat_down = "drop"', r"on_rocketchat_down.*hold, native"),
        (ONE + "idle_hours = -1", r"idle_hours.*above 0"),
        (ONE + 'idle_hours = "24"', r"idle_hours.*without quotes"),
        (ONE + '[channels.wa.rocketchat]\nurl = "https://x"', r"channels\.wa\.rocketchat\.url"),
        (ONE + '[channels.wa.native]\napp_secret = "env:NOT_SET"', r"native\.app_secret.*set NOT_SET"),
        (ONE + '[channels.wa.native]\napp_secret = "file:/not/there"', r"native\.app_secret.*cannot be read"),
        (ONE + '[channels.wa.native]\napp_secret = ""', r"native\.app_secret.*not empty"),
        ("channels = 3", "must be a table"),
        ("[delivery]\nlease = 3", r"delivery\.lease.*no such key"),
        ("[delivery]\nmax_attempts = 2.5", "whole number"),
        ("[delivery]\nlease_seconds = true", "above 0"),
        ("[delivery]\nlease_seconds = 5", "within its lease"),
        ('flags = "unleash"', "FIGUEIRA_UNLEASH_URL"),
        ('flags = "darkly"', "local, unleash"),
        ('trusted_proxies = "10.0.0.0/99"', "trusted_proxies"),
        ('public_url = "https://[::"', "public_url"),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_the_mend(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        read(tmp_path, text)


def test_two_channels_may_not_share_an_address(tmp_path: Path) -> None:
    both = "".join(
        CHANNEL.format(slug=slug) + f'[channels.{slug}.native]\nphone_number_id = "9"\n'
        for slug in ("a", "b")
    )
    with pytest.raises(ConfigurationError, match="address of a"):
        read(tmp_path, both)


def test_broken_toml_is_told_by_its_place_not_by_its_values(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"line 2") as refused:
        read(tmp_path, 'log_format = "json"\nsecret_key = hunter2')
    assert "hunter2" not in str(refused.value)


def test_native_keys_are_checked_where_the_kind_tells_them(tmp_path: Path) -> None:
    path = write(tmp_path, ONE + '[channels.wa.native]\napp_secrte = "x"')
    environ = {"FIGUEIRA_HOME": str(tmp_path / "home")}
    assert load(environ, path, kinds=KINDS).channels["wa"].native == {"app_secrte": "x"}
    with pytest.raises(ConfigurationError, match="did you mean app_secret"):
        load(environ, path, kinds=KINDS, native_keys={"whatsapp": ["app_secret"]})


def test_a_misspelt_variable_is_refused_and_a_foreign_one_is_not(tmp_path: Path) -> None:
    read(tmp_path, "", {"FIGUEIRA_PORT": "tcp://10.0.0.1:8080", "FIGUEIRA_TEST_SERVERS": "require"})
    with pytest.raises(ConfigurationError, match="did you mean FIGUEIRA_DATABASE_URL"):
        read(tmp_path, "", {"FIGUEIRA_DATABSE_URL": "postgresql://x"})


def test_settings_cannot_be_changed_afterwards(full: Settings) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        full.home = Path("/elsewhere")  # type: ignore[misc]


def test_without_a_name_the_file_here_wins_over_the_one_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`figueira …` typed beside a running `make run` finds what that wrote."""

    def found(environ: dict[str, str]) -> str | None:
        return load(environ, None, kinds=KINDS).public_url

    monkeypatch.chdir(tmp_path)
    named = {"FIGUEIRA_HOME": "h"}
    assert found({}) is None
    for home in (tmp_path / ".figueira", tmp_path / "h"):
        home.mkdir(exist_ok=True)
        write(home, f'public_url = "https://{home.name.strip(".")}.example"')
    assert (found({}), found(named)) == ("https://figueira.example", "https://h.example")
    write(tmp_path, 'public_url = "https://here.example"')
    assert (found({}), found(named)) == ("https://here.example", "https://here.example")
    assert found({"FIGUEIRA_CONFIG": "h/figueira.toml"}) == "https://h.example"
