"""What is committed must serve on every machine: no addresses of package registries, no paths of one machine."""

import json
import re

from tests.architecture.repository import ROOT, committed_files

_SCHEME = "https?:" + "//"
_FORBIDDEN = {
    "an address of a package registry": re.compile(
        rf"{_SCHEME}[^\s\"')]*(?:pypi|pythonhosted|npmjs|goproxy|artifactory|nexus|crates)\b|--(?:extra-)?index-url\b",
        re.I,
    ),
    "a path of one machine": re.compile(r"(?<![\w.$}/])/(?:work|root|home|Users)/[\w.-]+"),
}
_NOT_OURS = {"tests/architecture/test_hygiene.py"}


def test_no_file_names_a_package_registry_or_a_path_of_one_machine() -> None:
    found = []
    for path in committed_files():
        name = str(path.relative_to(ROOT))
        if name in _NOT_OURS:
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        for what, pattern in _FORBIDDEN.items():
            found += [f"{name}: {what}: {match.group()}" for match in pattern.finditer(text)]
    assert not found


def test_every_requirement_is_pinned_by_hash() -> None:
    text = (ROOT / "requirements.txt").read_text()
    entries = re.split(r"\n(?=[a-z0-9])", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    assert len(entries) > 20
    assert not [entry.split()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry]


def test_the_node_lock_holds_no_addresses_of_packages() -> None:
    for path in committed_files():
        if path.name == "package-lock.json":
            packages = json.loads(path.read_text())["packages"]
            assert not [name for name, package in packages.items() if "resolved" in package]
            assert not [name for name, package in packages.items() if name and "integrity" not in package]


def test_no_lock_of_uv_is_committed() -> None:
    assert not [path for path in committed_files() if path.name in {"uv.lock", "pylock.toml"}]
