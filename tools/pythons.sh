#!/usr/bin/env bash
# An environment with the compiled wheel for every Python from 3.11 on that has CPython's own asyncio tests, one minor
# version each. Prints, one a line and oldest first, the command that starts each of them.
#
#   tools/pythons.sh [WRAPPER ...]
#
# A WRAPPER is a program that runs a command where further Pythons live (a chroot, a container that sees this folder);
# it is asked for python3.14 and python3.15. PEERS names packages to have there as well, if they can be had. What goes on is told on standard error.
set -euo pipefail
cd "$(dirname "$0")/.."
home=build/pythons
mkdir -p "$home"
shopt -s nullglob
declare -A done=()

has_tests='import sys, test.test_asyncio; v = sys.version_info; sys.exit(not (v >= (3, 11) and v.releaselevel in ("final", "candidate")))'

# make_env PREFIX... : the last word is the interpreter, what stands before it a wrapper.
make_env() {
  local -a prefix=("${@:1:$#-1}")
  local python=${!#} version env
  "${prefix[@]}" "$python" -c "$has_tests" 2>/dev/null || return 0
  version=$("${prefix[@]}" "$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  [[ -z ${done[$version]:-} ]] || return 0
  env=$PWD/$home/$version
  if [[ ! -e $env/.ready || -n $(find src/weft setup.py pyproject.toml -newer "$env/.ready" -type f ! -name '*.pyc' -print -quit) ]]; then
    echo "Python $version: building" >&2
    [[ -x $env/bin/python || -L $env/bin/python ]] || "${prefix[@]}" "$python" -m venv "$env" >&2
    "${prefix[@]}" "$env/bin/python" -m pip install --quiet --no-deps --force-reinstall . >&2
    "${prefix[@]}" "$env/bin/python" tools/smoke.py --edition compiled >&2
    touch "$env/.ready"
  fi
  for peer in ${PEERS:-}; do
    "${prefix[@]}" "$env/bin/python" -c "import $peer" 2>/dev/null ||
      "${prefix[@]}" "$env/bin/python" -m pip install --quiet "$peer" >&2 ||
      echo "Python $version: $peer can't be installed" >&2
  done
  done[$version]=1
  found+=("$version $(printf '%q ' "${prefix[@]}" "$env/bin/python")")
}

found=()
for minor in 11 12 13 14 15; do
  for python in $(type -ap "python3.$minor") "$HOME"/.pyenv/versions/3."$minor".*/bin/python3; do make_env "$python"; done
done
for wrapper in "$@"; do
  for minor in 14 15; do make_env "$wrapper" "python3.$minor"; done
done
printf '%s\n' "${found[@]}" | sort -V | cut -d' ' -f2-
