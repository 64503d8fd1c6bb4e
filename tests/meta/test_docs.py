"""The documentation runs: Python examples as they are printed, commands that exist, links that lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def examples() -> list[object]:
    """Every Python block, with the plain block that follows "It prints", if one does."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = list(BLOCK.finditer(text))
        for number, block in enumerate(blocks):
            if block[1] != "python":
                continue
            printed = None
            if number + 1 < len(blocks):
                between = text[block.end() : blocks[number + 1].start()]
                if between.strip() == "It prints":
                    printed = blocks[number + 1][2]
            where = f"{page.relative_to(ROOT)}:{text[: block.start()].count(chr(10)) + 1}"
            found.append(pytest.param(block[2], printed, id=where))
    return found


@pytest.mark.parametrize(("code", "printed"), examples())
def test_example_runs(code: str, printed: str | None, tmp_path: Path) -> None:
    program = tmp_path / "example.py"
    program.write_text(code, encoding="utf-8")
    process = subprocess.run(
        [sys.executable, "-W", "error", str(program)], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 0, process.stderr
    if sys.version_info >= (3, 12):  # asyncio's streams of 3.11 report the handler that asyncio.run cancels
        assert process.stderr == ""
    if printed is not None:
        assert process.stdout == printed


def test_there_are_examples() -> None:
    assert len(examples()) >= 5
    assert any(param.values[1] for param in examples())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in LINK.findall(BLOCK.sub("", text)):
        if "://" in target or target.startswith("#"):
            continue
        assert (page.parent / target.partition("#")[0]).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_commands_exist(page: Path) -> None:
    """Every `make word` in code names a target."""
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    code = [block[2] for block in BLOCK.finditer(text)] + re.findall(r"`([^`\n]+)`", text)
    for word in re.findall(r"^(?:\$ |PYTHON=\S+ )?make ([a-z][\w-]*)(?= *(?:#|$))", "\n".join(code), re.MULTILINE):
        assert word in targets, f"make {word}"


def test_weft_commands_exist() -> None:
    """Every `weft verb` in code is a verb of the command (`weft verb:` is a message), and each option of `weft run` is one."""
    help_of = {}
    for verb in ("asyncify", "doctor", "run"):
        process = subprocess.run(
            [sys.executable, "-m", "weft", verb, "--help"],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT / "docs",
        )
        assert process.returncode == 0, process.stderr
        help_of[verb] = process.stdout
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        code = "\n".join([block[2] for block in BLOCK.finditer(text)] + re.findall(r"`([^`\n]+)`", text))
        for verb in re.findall(r"^(?:\$ |python -m )?weft ([a-z]+)\b(?!:)", code, re.MULTILINE):
            assert verb in help_of, f"{page.name}: weft {verb}"
        for option in re.findall(r"`(--[a-z-]+)`", text) if page.name == "weft-run.md" else ():
            assert any(option in text for text in help_of.values()), f"{page.name}: {option}"


def test_environment_switches_are_documented() -> None:
    """Each WEFT_… variable that the source reads is named in a page, and no page names one that nobody reads."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    source += (ROOT / "setup.py").read_text(encoding="utf-8")
    read = set(re.findall(r"""["'](WEFT_[A-Z_]+)["']""", source))
    told = set(re.findall(r"\bWEFT_[A-Z_]+\b", "\n".join(page.read_text(encoding="utf-8") for page in PAGES)))
    assert told <= read, f"documented and not read: {told - read}"
    private = {name for name in read if name.startswith("WEFT_RUN_")}
    assert read - private <= told, f"read and not documented: {read - told}"


def test_the_environment_is_the_one_under_test() -> None:
    """`make test` runs each edition in its own environment; a stray PYTHONPATH must not mix them."""
    import weft

    assert weft._edition.EDITION == ("plain" if os.environ.get("WEFT_PURE") or is_source() else "compiled")


def is_source() -> bool:
    import weft

    return not any(Path(weft.__file__).parent.joinpath("_core").glob("handle.*.so"))
