"""The build of the two editions; what is said declaratively stands in pyproject.toml.

The compiled set is found, never listed: every `.py` of a compiled room that has a sibling `.pxd`, and every `.pyx` of
`_native`. Rules:

- A compile that fails fails the build. `WEFT_PURE_BUILD=1` is the only way to a plain wheel (tag py3-none-any).
- Generated C lives under `build/`, and nothing is built in place: a `.so` beside an edited `.py` would hide the edit.
- `WEFT_SANITIZE=1` builds for AddressSanitizer and UndefinedBehaviorSanitizer; only `tools/sanitize.py` sets it, and
  it builds elsewhere, so that no such module slips into a wheel.
"""

from __future__ import annotations

import os
import sys
from contextlib import chdir
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SOURCE = ROOT / "src"
COMPILED_ROOMS = ("_core", "_io", "_net")
NATIVE_ROOM = "_native"
COLD = SOURCE / "weft" / NATIVE_ROOM / "cold.h"
COMPILE_ARGS = ["-O2", "-g0", "-fno-strict-overflow", "-Wno-unused-function", "-Wno-unreachable-code"]
COMPILE_ARGS += ["-include", str(COLD)]
LINK_ARGS: list[str] = []
if os.environ.get("WEFT_SANITIZE") == "1":
    LINK_ARGS = ["-fsanitize=address,undefined"]
    COMPILE_ARGS += ["-O1", "-g1", "-fno-omit-frame-pointer", *LINK_ARGS]
DIRECTIVES = {
    "language_level": 3,
    "annotation_typing": False,
    # A few checks that the processor predicts, against a crash of somebody's service: None where a field of a C type is
    # looked up (an object whose __init__ never ran), and indexes of lists.
    "nonecheck": True,
    "boundscheck": True,
    "wraparound": False,
    "auto_pickle": False,
    "freethreading_compatible": True,
}


def is_pure_build() -> bool:
    return os.environ.get("WEFT_PURE_BUILD", "") not in ("", "0")


def compiled_sources() -> list[Path]:
    """The source files of the compiled set, in a stable order."""
    package = SOURCE / "weft"
    augmented = [pxd.with_suffix(".py") for room in COMPILED_ROOMS for pxd in (package / room).rglob("*.pxd")]
    missing = [str(path.relative_to(ROOT)) for path in augmented if not path.exists() and path.stem != "__init__"]
    if missing:
        raise SystemExit(f"a .pxd without its .py: {', '.join(sorted(missing))}")
    sources = [path for path in augmented if path.stem != "__init__"] + list((package / NATIVE_ROOM).glob("*.pyx"))
    # epoll is Linux's: elsewhere its two modules stay plain, and are never asked for.
    return sorted(path for path in sources if path.stem != "epoll" or sys.platform == "linux")


def extensions() -> list[Extension]:
    """The extension modules of the compiled edition, their C generated under build/."""
    import Cython
    from Cython.Build import cythonize

    # The C is the same for every Python, so the builds of several Pythons share it.
    generated = ROOT / "build" / f"cython-{Cython.__version__}"
    # Cython's own time stamps know the sources, not the directives and flags that stand in this file.
    oldest = min((path.stat().st_mtime for path in generated.rglob("*.c")), default=float("inf"))
    # From within src/, so that a traceback names the file as it lies below site-packages: weft/_core/task.py.
    with chdir(SOURCE):
        modules = cythonize(
            [
                Extension(
                    ".".join(path.relative_to(SOURCE).with_suffix("").parts),
                    [str(path.relative_to(SOURCE))],
                    extra_compile_args=COMPILE_ARGS,
                    extra_link_args=LINK_ARGS,
                )
                for path in compiled_sources()
            ],
            build_dir=str(generated),
            compiler_directives=DIRECTIVES,
            force=Path(__file__).stat().st_mtime > oldest,
        )
    for module in modules:
        # setuptools wants its sources relative to the root.
        module.sources = [os.path.relpath(SOURCE / path, ROOT) for path in module.sources]
        module.depends = []
    return modules


class BuildPython(build_py):
    """Copies the package, and takes away what an earlier build left in build/lib: it would slip into the wheel."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        wanted = {Path(path).resolve() for path in self.get_outputs(include_bytecode=False)}
        if self.distribution.has_ext_modules():
            wanted |= {Path(path).resolve() for path in self.get_finalized_command("build_ext").get_outputs()}
        for path in Path(self.build_lib).rglob("*"):
            if path.is_file() and path.resolve() not in wanted:
                path.unlink()


class BuildExtensions(build_ext):
    """Compiles in parallel, and never beside the sources."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count() or 1

    def run(self) -> None:
        if self.inplace or self.editable_mode:
            raise SystemExit(
                "weft is never compiled in place: a .so beside an edited .py hides the edit.\n"
                "For an editable (plain) install: WEFT_PURE_BUILD=1 pip install -e .\n"
                "For the compiled edition:        pip install ."
            )
        super().run()


setup(
    ext_modules=[] if is_pure_build() else extensions(),
    cmdclass={"build_py": BuildPython, "build_ext": BuildExtensions},
)
