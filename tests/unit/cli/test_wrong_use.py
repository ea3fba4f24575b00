"""Exit 2, one line on stderr, nothing on stdout, and no desk opened."""

from argparse import Namespace
from pathlib import Path

import pytest

from router.cli import session
from tests.unit.cli.scene import Figueira

ID = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "COMMAND"),
        ("migrate look x", "'look'"),
        ("flags", "COMMAND"),
        ("flags ramp whatsapp", "'ramp'"),
        ("flags set whatsapp native", "--reason"),
        ("flags set whatsapp native --reason=", "must not be blank"),
        ("flags set whatsapp nativ --reason x", "'nativ'"),
        ("flags set whatsapp native --percent 5 --reason x", "belongs to canary"),
        ("flags set whatsapp canary --reason x", "--percent"),
        ("flags set whatsapp canary --percent 101 --reason x", "0 to 100"),
        ("flags set whatsapp canary --percent 5.5 --reason x", "0 to 100"),
        ("flags set whatsapp canary --percent=-1 --reason x", "0 to 100"),
        ("flags set whatsapp canary --class patient --reason x", "'patient'"),
        ("flags set whatsapp canary --perc 5 --reason x", "--perc"),
        ("flags history whatsapp --verify", "--verify"),
        (f"move {ID} native", "--reason"),
        ("move 12 native --reason x", "a UUID"),
        (f"move {ID} shadow --reason x", "'shadow'"),
        ("explain", "CONVERSATION"),
        (f"deadletters replay {ID} --all", "either JOB or --all"),
        ("deadletters show nothing", "a UUID"),
        ("users create ana --tenant all --role admin", "e-mail"),
        ("users create ana@example.org --tenant all --role king", "'king'"),
        ("keys create robot --tenant all --scopes messages:read,money", "'money'"),
        ("keys create robot --tenant all --scopes ,", "no scope"),
        ("serve --port 70000", "65535"),
        ("serve --role boss", "'boss'"),
        ("db url --config nowhere.toml", "nowhere.toml"),
        ("doctor --ledger --config nowhere.toml", "nowhere.toml"),
    ],
)
def test_one_line(line: str, said: str, figueira: Figueira, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "open_desk", pytest.fail)
    code, out, err = figueira(*line.split())
    assert (code, out) == (2, "")
    assert err.startswith("figueira")
    assert err.count("\n") == 1
    assert said in err


def test_a_newline_in_an_argument_makes_no_second_line(figueira: Figueira) -> None:
    code, _, err = figueira("flags", "list", "--what\never")
    assert code == 2
    assert err.count("\n") == 1


def test_settings_that_do_not_hold(figueira: Figueira, home: Path) -> None:
    (home / "figueira.toml").write_text('[channels.rocketchat]\nkind = "whatsapp"\ntenant = "t"\n')
    code, out, err = figueira("flags", "list", "--json")
    assert (code, out) == (2, "")
    assert "reserved" in err


@pytest.mark.parametrize("key", ["throughput", "pair_seconds", "pair_burst"])
@pytest.mark.parametrize("given", ['"fast"', "0", "-1", '"nan"', '"inf"', "true", "[1, 2]"])
def test_a_rate_that_is_no_number(figueira: Figueira, home: Path, key: str, given: str) -> None:
    native = f"[channels.whatsapp.native]\n{key} = {given}\n"
    (home / "figueira.toml").write_text('[channels.whatsapp]\nkind = "whatsapp"\ntenant = "t"\n' + native)
    code, out, err = figueira("flags", "list", "--json")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert f"channels.whatsapp.native.{key}: it must be a number above 0" in err


@pytest.mark.parametrize("given", ["80", "0.5", '"80"'])
def test_a_rate_that_is_a_number(given: str, home: Path) -> None:
    native = f"[channels.whatsapp.native]\nthroughput = {given}\n"
    (home / "figueira.toml").write_text('[channels.whatsapp]\nkind = "whatsapp"\ntenant = "t"\n' + native)
    settings = session.settings_of(Namespace(config=None))
    assert settings.channels["whatsapp"].native["throughput"] == given.strip('"')


def test_help_is_no_error(figueira: Figueira) -> None:
    code, out, err = figueira("flags", "set", "--help")
    assert (code, err) == (0, "")
    assert "--reason" in out
