#!/usr/bin/env bash
# Installs what the project runs with into its own folders: uv into .tools, the locked environment into .venv.
# Needs Python 3.11 or later; pip comes from the system, or else from Debian's package without installing it.
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
    for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "expected Python 3.11 to 3.13 on PATH, found none. Install one (apt install python3), or set PYTHON."
}

# A machine without pip gets the wheel out of Debian's python3-pip-whl; pip runs from its own wheel.
pip_wheel() {
    local folder=.tools/pip
    mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
    (
        cd "$folder"
        local options=(-o "Dir::State::Lists=$PWD/lists" -o "Dir::Cache=$PWD/cache" -o "Debug::NoLocking=1")
        apt-get "${options[@]}" -qq update && apt-get "${options[@]}" -qq download python3-pip-whl &&
            dpkg -x python3-pip-whl_*.deb .
    ) >&2 || fail "expected pip, found none, and Debian's python3-pip-whl could not be had. Install pip or uv $uv_version."
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
            --target .tools/uv "uv==$uv_version" >&2 || fail "uv could not be installed. Is a package index reachable?"
    fi
    printf '%s\n' "$PWD/.tools/uv/bin/uv"
}

python=$(find_python)
uv=$(install_uv)
stamp=.venv/.installed
fingerprint=$(cat requirements.lock pyproject.toml testbeds/setup.sh | sha256sum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$fingerprint" ]; then
    exit 0
fi
say "installing the locked environment into .venv ($(grep -c '==' requirements.lock) packages)"
[ -x .venv/bin/python ] || "$uv" venv --quiet --python "$python" .venv
export VIRTUAL_ENV="$PWD/.venv"
# Compiled now, importing MLflow and scikit-learn takes 2 s in each process later, and not 6.
"$uv" pip sync --quiet --compile-bytecode --require-hashes requirements.lock
"$uv" pip install --quiet --no-deps --no-build-isolation --editable .
printf '%s\n' "$fingerprint" >"$stamp"
say "done"
