"""docs/generate.py: complete, and able to say that a page is stale."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = spec_from_file_location("generate", Path(__file__).parents[3] / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_has_what_it_is_for(generate: ModuleType) -> None:
    pages = generate.pages()
    assert "## `figueira flags set KIND STAGE --reason TEXT`" in pages["commands.md"]
    assert "## `figueira serve`" in pages["commands.md"]
    assert "`FIGUEIRA_SECRET_KEY`" in pages["settings.md"]
    assert "| `lease_seconds` | `30.0` | How long a claimed job" in pages["settings.md"]
    assert (
        "| window | 24 hours after the contact last wrote; outside it: `template` |" in pages["channels.md"]
    )
    assert (
        "| `360dialog` | `api_key` \\| `access_token`, `app_secret` \\| `webhook_token` |"
        in pages["channels.md"]
    )
    assert "| `figueira_events_total` | counter | `channel`, `kind`, `outcome` |" in pages["metrics.md"]


def test_check_finds_a_stale_page_and_writing_mends_it(
    generate: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "reference"
    assert generate.main(["--check"], folder) == 1
    assert generate.main([], folder) == 0
    assert generate.main(["--check"], folder) == 0
    capsys.readouterr()
    (folder / "commands.md").write_text("old")
    assert generate.main(["--check"], folder) == 1
    assert "commands.md" in capsys.readouterr().err
    assert (folder / "commands.md").read_text() == "old"
