"""Flag, then environment, then profile, then default."""

from pathlib import Path

import pytest

from farhand.cli.failure import WrongUse
from farhand.cli.profile import Choices, resolve

PROFILES = """
[default]
registry = "default:1"
tenant = "from-default"

[prod]
registry = "prod:1"
scheduler = "prod:2"
tls_ca = "ca.crt"
token_file = "/etc/farhand/token"
output = "yaml"
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "farhand").mkdir()
    (tmp_path / "farhand" / "profiles.toml").write_text(PROFILES)
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def test_without_any_source_the_defaults_hold(tmp_path: Path) -> None:
    settings = resolve(Choices(), None, {"XDG_CONFIG_HOME": str(tmp_path)})
    assert (settings.registry, settings.scheduler) == ("127.0.0.1:7401", "127.0.0.1:7402")
    assert (settings.output, settings.tenant, settings.tls_ca, settings.token) == ("table", "", None, None)


def test_a_profile_beats_the_defaults(environ: dict[str, str]) -> None:
    settings = resolve(Choices(), "prod", environ)
    assert (settings.registry, settings.scheduler, settings.output) == ("prod:1", "prod:2", "yaml")


def test_the_environment_beats_a_profile(environ: dict[str, str]) -> None:
    environ |= {"FARHAND_REGISTRY": "env:1", "FARHAND_TENANT": "from-env"}
    settings = resolve(Choices(), "prod", environ)
    assert (settings.registry, settings.tenant, settings.scheduler) == ("env:1", "from-env", "prod:2")


def test_a_flag_beats_the_environment(environ: dict[str, str]) -> None:
    environ |= {"FARHAND_REGISTRY": "env:1"}
    assert resolve(Choices(registry="flag:1"), "prod", environ).registry == "flag:1"


def test_an_empty_variable_says_nothing(environ: dict[str, str]) -> None:
    environ |= {"FARHAND_REGISTRY": "", "FARHAND_PROFILE": ""}
    assert resolve(Choices(), None, environ).registry == "default:1"


def test_the_default_profile_is_taken_where_none_is_named(environ: dict[str, str]) -> None:
    assert resolve(Choices(), None, environ).tenant == "from-default"


def test_a_profile_named_by_flag_beats_one_named_by_variable(environ: dict[str, str]) -> None:
    environ |= {"FARHAND_PROFILE": "prod"}
    assert resolve(Choices(), None, environ).registry == "prod:1"
    assert resolve(Choices(), "default", environ).registry == "default:1"


def test_a_stronger_token_hides_a_weaker_token_file(environ: dict[str, str]) -> None:
    by_profile = resolve(Choices(), "prod", environ)
    assert (by_profile.token, by_profile.token_file) == (None, Path("/etc/farhand/token"))
    environ |= {"FARHAND_TOKEN": "secret"}
    by_variable = resolve(Choices(), "prod", environ)
    assert (by_variable.token, by_variable.token_file) == ("secret", None)
    by_flag = resolve(Choices(token_file="t"), "prod", environ)
    assert (by_flag.token, by_flag.token_file) == (None, Path("t"))


def test_a_relative_path_of_a_profile_starts_at_its_file(environ: dict[str, str]) -> None:
    assert resolve(Choices(), "prod", environ).tls_ca == Path(environ["XDG_CONFIG_HOME"]) / "farhand" / "ca.crt"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[prod]\nregistri = 'a:1'", "no setting 'registri'. Did you mean 'registry'"),
        ("[prod]\nregistry = 7401", "registry must be a text"),
        ("[prod]\nregistry = 'prod'", "'prod' is not an address"),
        ("[prod]\noutput = 'xml'", "'xml' is not one of table, json, yaml"),
        ("[prod]\ntoken = 'a'\ntoken_file = 'b'", "not both"),
        ("prod = 1", "must be a table"),
        ("[prod", "is not TOML"),
        ("[prods]\n", "no profile 'prod' in .* Did you mean 'prods'"),
        ("[other]\n[another]", "no profile 'prod' in .* It has: other, another"),
    ],
)
def test_what_is_wrong_in_the_file_is_said(environ: dict[str, str], text: str, complaint: str) -> None:
    (Path(environ["XDG_CONFIG_HOME"]) / "farhand" / "profiles.toml").write_text(text)
    with pytest.raises(WrongUse, match=complaint):
        resolve(Choices(), "prod", environ)


def test_a_named_profile_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="does not exist"):
        resolve(Choices(), "prod", {"XDG_CONFIG_HOME": str(tmp_path)})


@pytest.mark.parametrize("address", ["nowhere", ":7401", "host:", "host:0", "host:99999", "http://host:1", "::1:7401"])
def test_what_is_no_address_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(WrongUse, match="--registry"):
        resolve(Choices(registry=address), None, {"XDG_CONFIG_HOME": str(tmp_path)})
