"""What a client's tests need: the pinned sdist, laid out without the package itself, and an environment of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "clients"


class Missing(Exception):
    """What the tests need can't be had on this machine; the words say what, and how to get it."""


@dataclass(frozen=True)
class Client:
    """An entry of clients.toml."""

    name: str
    version: str
    tests: list[str]
    requires: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    short: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)
    left_out: str = ""
    server: str = ""
    package: str = ""
    """Its name on PyPI."""

    @property
    def has_suite(self) -> bool:
        """Whether its sdist ships the tests; otherwise they are sessions of ours."""
        return bool(self.copied)


def read() -> list[Client]:
    entries = tomllib.loads((HERE / "clients.toml").read_text(encoding="utf-8"))
    return [Client(name, **{"package": name, **entry}) for name, entry in entries.items()]


def folder(client: Client) -> Path:
    """The folder that the tests run in: the sdist's, unpacked once, or sessions/."""
    if not client.has_suite:
        return HERE / "sessions"
    there = BUILD / f"{client.package}-{client.version}"
    if not there.exists():
        archives = BUILD / "sdists" / there.name
        if not list(archives.glob("*.tar.gz")):
            # The build requirements of an sdist are not needed to unpack it, but pip asks for its metadata.
            _call([sys.executable, "-m", "pip", "download", "--quiet", "--no-binary", ":all:", "--no-deps",
                   "--dest", str(archives), f"{client.package}=={client.version}"])  # fmt: skip
        (archive,) = archives.glob("*.tar.gz")
        partial = there.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        with tarfile.open(archive) as tar:
            tar.extractall(partial, filter="data")
        (unpacked,) = partial.iterdir()
        for entry in unpacked.iterdir():
            if entry.name not in client.copied:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        unpacked.rename(there)
        partial.rmdir()
    return there


def environment(client: Client, wheel: Path) -> Path:
    """The Python of an environment with the client, what its tests require, and Weft from `wheel`."""
    there = BUILD / f"venv-{sys.implementation.cache_tag}" / client.name
    python = there / "bin" / "python"
    wanted = [f"{client.package}=={client.version}", "pytest", "pytest-timeout", *client.requires]
    note, state = there / "installed.json", json.dumps([sys.version, wanted])
    if not note.exists() or note.read_text(encoding="utf-8") != state:
        shutil.rmtree(there, ignore_errors=True)
        _call([sys.executable, "-m", "venv", "--without-pip", str(there)])
        _install(python, "--prefer-binary", *wanted)
        note.write_text(state, encoding="utf-8")
    mark, digest = there / "weft.sha256", hashlib.sha256(wheel.read_bytes()).hexdigest()
    if not mark.exists() or mark.read_text(encoding="utf-8") != digest:
        _install(python, "--no-deps", "--force-reinstall", str(wheel))
        mark.write_text(digest, encoding="utf-8")
    return python


def _install(python: Path, *arguments: str) -> None:
    _call([sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check",
           *arguments])  # fmt: skip


def _call(command: list[str]) -> None:
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise Missing(f"{' '.join(command)}: status {ended.returncode}\n{ended.stdout[-1000:]}{ended.stderr[-3000:]}")
