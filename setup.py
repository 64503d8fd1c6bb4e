"""The build of the two editions; what is said declaratively stands in pyproject.toml.

The compiled set is found, never listed: every `.py` of a compiled room that has a sibling `.pxd`, and every `.pyx` of
`_native`. Rules:

- A compile that fails fails the build. `WEFT_PURE_BUILD=1` is the only way to a plain wheel (tag py3-none-any).
- All modules are linked into one shared object, `weft._compiled`, which says why.
- Generated C lives under `build/`, and nothing is built in place: a `.so` beside an edited `.py` would hide the edit.
- `WEFT_SANITIZE=1` builds for AddressSanitizer and UndefinedBehaviorSanitizer; only `tools/sanitize.py` sets it, and
  it builds elsewhere, so that no such module slips into a wheel.
"""

from __future__ import annotations

import functools
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.modified import newer_group

ROOT = Path(__file__).resolve().parent
SOURCE = ROOT / "src"
COMPILED_ROOMS = ("_core", "_io", "_net")
NATIVE_ROOM = "_native"
ALL_IN_ONE = SOURCE / "weft" / "_compiled.pyx"
ALL_IN_ONE_NAME = "weft._compiled"
COLD = SOURCE / "weft" / NATIVE_ROOM / "cold.h"
COMPILE_ARGS = ["-O2", "-g0", "-fno-strict-overflow", "-Wno-unused-function", "-Wno-unreachable-code"]
COMPILE_ARGS += ["-fvisibility=hidden", "-include", str(COLD)]
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


def compiled_modules() -> list[Extension]:
    """The shared object with all modules of the compiled edition, their C generated under build/."""
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
                Extension(".".join(path.relative_to(SOURCE).with_suffix("").parts), [str(path.relative_to(SOURCE))])
                for path in [*compiled_sources(), ALL_IN_ONE]
            ],
            build_dir=str(generated),
            compiler_directives=DIRECTIVES,
            force=Path(__file__).stat().st_mtime > oldest,
        )
    # setuptools wants its sources relative to the root.
    sources = {os.path.relpath(SOURCE / module.sources[0], ROOT): module.name for module in modules}
    write_table(generated / "modules.h", [name for name in sources.values() if name != ALL_IN_ONE_NAME])
    return [
        OneObject(
            ALL_IN_ONE_NAME,
            sources,
            include_dirs=[str(generated)],
            depends=[str(generated / "modules.h"), str(COLD), __file__],
            extra_compile_args=COMPILE_ARGS,
            extra_link_args=LINK_ARGS,
        )
    ]


def init_function(name: str) -> str:
    """The C function that begins a module; Cython's own name for it would be that of each module called `clock`."""
    return "PyInit_" + name.replace(".", "__")


def write_table(path: Path, names: list[str]) -> None:
    """The C header by which `_compiled.pyx` knows the modules."""
    lines = [
        "#include <Python.h>",
        "typedef struct { const char *name; PyModuleDef *(*definition)(void); } CompiledModule;",
    ]
    # A module of several phases gives its definition, as an object.
    lines += [f"PyModuleDef *{init_function(name)}(void);" for name in names]
    lines += ["static const CompiledModule compiled_modules[] = {"]
    lines += [f'    {{"{name}", {init_function(name)}}},' for name in names]
    lines += ["};", f"enum {{ compiled_modules_count = {len(names)} }};", ""]
    text = "\n".join(lines)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


class OneObject(Extension):
    """`modules`: the module that each C source is."""

    def __init__(self, name: str, modules: dict[str, str], **options: Any) -> None:
        super().__init__(name, list(modules), **options)
        self.modules = modules

    def macros_for(self, source: str) -> list[tuple[str, str | None]]:
        """Within the object each module begins with a function of its own; Python finds only that of the whole."""
        name = self.modules[source]
        if name == self.name:
            return []
        return [("PyInit_" + name.rpartition(".")[2], init_function(name)), ("CYTHON_NO_PYINIT_EXPORT", None)]


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

    def run(self) -> None:
        if self.inplace or self.editable_mode:
            raise SystemExit(
                "weft is never compiled in place: a .so beside an edited .py hides the edit.\n"
                "For an editable (plain) install: WEFT_PURE_BUILD=1 pip install -e .\n"
                "For the compiled edition:        pip install ."
            )
        super().run()

    def build_extension(self, extension: Extension) -> None:
        assert isinstance(extension, OneObject)
        with ThreadPoolExecutor(self.parallel or os.cpu_count()) as pool:
            objects = list(pool.map(functools.partial(self.compile, extension), extension.modules))
        self.compiler.link_shared_object(
            objects,
            self.get_ext_fullpath(extension.name),
            extra_postargs=extension.extra_link_args,
            build_temp=self.build_temp,
            target_lang="c",
        )

    def compile(self, extension: OneObject, source: str) -> str:
        """The object file of a source, made again if it is older than what it is made of."""
        (path,) = self.compiler.object_filenames([source], output_dir=self.build_temp)
        if self.force or newer_group([source, *extension.depends], path):
            self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                macros=extension.macros_for(source),
                include_dirs=extension.include_dirs,
                extra_postargs=extension.extra_compile_args,
            )
        return path


setup(
    ext_modules=[] if is_pure_build() else compiled_modules(),
    cmdclass={"build_py": BuildPython, "build_ext": BuildExtensions},
)
