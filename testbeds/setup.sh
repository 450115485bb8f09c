#!/usr/bin/env bash
# Installs what the project needs into its own folders: uv into .tools, the locked environment into .venv.
# Needs Python 3.11 to 3.14. Uses the system's pip, or else the one in Debian's package, without installing that.
set -euo pipefail
cd "$(dirname "$0")/.."

uv_version=0.13.9
export UV_PYTHON_DOWNLOADS=never

say() { printf 'setup: %s\n' "$*"; }

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.14 python3.13 python3.12 python3.11 python3; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "expected Python 3.11 to 3.14 on PATH, found $(python3 --version 2>/dev/null || echo none). Install one of them, or set PYTHON to its path."
}

# On a machine without pip, pip is run from its own wheel, which is in Debian's package python3-pip-whl.
pip_wheel() {
    local folder=.tools/pip
    rm -rf "$folder"
    mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
    (
        cd "$folder"
        local options=(-o "Dir::State::Lists=$PWD/lists" -o "Dir::Cache=$PWD/cache" -o "Debug::NoLocking=1")
        apt-get "${options[@]}" -qq update && apt-get "${options[@]}" -qq download python3-pip-whl &&
            dpkg -x python3-pip-whl_*.deb .
    ) >&2 || fail "expected pip, found none, and Debian's package python3-pip-whl could not be downloaded. Install pip or uv $uv_version."
    find "$folder/usr/share/python-wheels" -name 'pip-*.whl' | head -n 1
}

install_uv() {
    if command -v uv >/dev/null 2>&1; then
        command -v uv
        return
    fi
    if [ ! -x .tools/uv/bin/uv ] || ! .tools/uv/bin/uv --version | grep -qF "uv $uv_version"; then
        say "installing uv $uv_version into .tools" >&2
        local pip=("$python" -m pip)
        "${pip[@]}" --version >/dev/null 2>&1 || pip=("$python" "$(pip_wheel)/pip")
        rm -rf .tools/uv
        "${pip[@]}" install --quiet --disable-pip-version-check --no-warn-script-location --root-user-action ignore \
            --target .tools/uv "uv==$uv_version" >&2 || fail "could not install uv. Check that pip can reach a package index."
    fi
    printf '%s\n' "$PWD/.tools/uv/bin/uv"
}

python=$(find_python)
uv=$(install_uv)
stamp=.venv/.installed
fingerprint=$({ cat requirements.lock pyproject.toml testbeds/setup.sh && "$python" --version; } | sha256sum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$fingerprint" ]; then
    exit 0
fi
say "installing the locked environment into .venv ($(grep -c '==' requirements.lock) packages)"
# An environment of another Python, or one whose creation was interrupted, is made again from scratch.
if [ "$(.venv/bin/python --version 2>/dev/null)" != "$("$python" --version)" ]; then
    rm -rf .venv
    "$uv" venv --quiet --python "$python" .venv
fi
export VIRTUAL_ENV="$PWD/.venv"
# Compiling the bytecode now lets each later process import MLflow and scikit-learn in 2 s instead of 6.
"$uv" pip sync --quiet --compile-bytecode --require-hashes requirements.lock
"$uv" pip install --quiet --no-deps --no-build-isolation --editable .
printf '%s\n' "$fingerprint" >"$stamp"
say "done"
