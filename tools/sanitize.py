"""The compiled edition under AddressSanitizer and UndefinedBehaviorSanitizer: builds it, then runs the tests with it.

    python tools/sanitize.py [--build-only] [pytest arguments]

Everything lies in `build/sanitize`: the modules, an environment that borrows the packages of the one that runs this, and
the sanitizers' logs. A finding fails the run, also one in a child process whose parent did not look.

Why PYTHONMALLOC=malloc: Python's own allocator hands out pieces of big blocks, and a use after free within one of them
is nothing to a sanitizer. Why no search for leaks at exit: an interpreter leaves much behind on purpose; what Weft leaks
is counted by `tests/stress` and `tests/soak`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "build" / "sanitize"
LIBRARY, VENV, LOGS = HOME / "lib", HOME / "venv", HOME / "logs"
# In pytest's own order: some tests look for children that an earlier one may have.
TESTS = ("tests/faults", "tests/fuzz", "tests/parity", "tests/stress", "tests/unit")
#: Of each kind, where nothing else is asked for: the sanitized modules are several times slower.
SCHEDULES = "200"
HANG_SECONDS = "60"
#: How a process ends in which the sanitizer found something.
FOUND = 99
# These weigh C's allocator, which the sanitizer replaces by its own.
WITHOUT = ("--deselect=tests/stress/test_churn.py", "--deselect=tests/stress/test_soak.py")


def build() -> None:
    environment = {**os.environ, "WEFT_SANITIZE": "1"}
    shutil.rmtree(LIBRARY, ignore_errors=True)
    subprocess.run(
        [
            sys.executable,
            "setup.py",
            "--quiet",
            "build",
            f"--build-base={HOME / 'build'}",
            f"--build-lib={LIBRARY}",
        ],
        cwd=ROOT,
        env=environment,
        check=True,
    )


def environment_of_its_own() -> Path:
    """A venv whose `weft` is the one built here and whose other packages are those of the running Python."""
    python = VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(VENV)], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(VENV), "platbase": str(VENV)}))
    # Read in the order of their names: ours comes first.
    (site / "1-weft.pth").write_text(f"{LIBRARY}\n", encoding="utf-8")
    (site / "2-packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return python


def sanitized_environment() -> dict[str, str]:
    """The environment variables of the run."""
    library = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    return {
        "WEFT_SCHEDULES": SCHEDULES,
        "WEFT_HANG_SECONDS": HANG_SECONDS,
        **os.environ,
        "LD_PRELOAD": str(Path(library.stdout.strip()).resolve()),
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": f"detect_leaks=0:log_path={LOGS / 'asan'}:detect_stack_use_after_return=1:exitcode={FOUND}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={LOGS / 'ubsan'}",
    }


def check_that_it_sees(python: Path, environment: dict[str, str]) -> None:
    """The modules are the sanitized ones, and an error is one: a run without findings must mean something."""
    code = "import weft._core.task as task; print(task.__file__)"
    module = subprocess.run([str(python), "-c", code], env=environment, check=True, capture_output=True, text=True)
    if not module.stdout.startswith(str(LIBRARY)) or b"__asan_report" not in Path(module.stdout.strip()).read_bytes():
        raise SystemExit(f"sanitize: not built for the sanitizer: {module.stdout.strip()}")
    code = (
        "import ctypes; c = ctypes.CDLL(None); c.malloc.restype = ctypes.c_void_p; p = c.malloc(64); "
        "c.free(ctypes.c_void_p(p)); ctypes.string_at(p, 8)"
    )
    if subprocess.run([str(python), "-c", code], env=environment, check=False).returncode != FOUND:
        raise SystemExit("sanitize: a use after free went unseen")
    for log in LOGS.iterdir():
        log.unlink()


def main() -> int:
    arguments = sys.argv[1:]
    build_only = "--build-only" in arguments
    build()
    python = environment_of_its_own()
    environment = sanitized_environment()
    check_that_it_sees(python, environment)
    if build_only:
        return 0
    tests = [argument for argument in arguments if not argument.startswith("-")]
    options = [argument for argument in arguments if argument.startswith("-")]
    chosen = tests or [test for test in TESTS if (ROOT / test).exists()]
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *WITHOUT, *options, *chosen]
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    for log in sorted(LOGS.iterdir()):
        print(f"\n===== {log.name}\n{log.read_text(encoding='utf-8', errors='replace')}", file=sys.stderr)
        status = status or 1
    print(f"sanitize: {'findings or failures, see above' if status else 'nothing found'}")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
