#!/bin/sh
# Installs what the tests need and this machine lacks. Safe to run again; quick when all is there.
#
#   PostgreSQL 14+   Debian's package as root or through sudo, else npm's build into target/postgres
#   Node 20+ and npm Debian's packages as root or through sudo
#   Python 3.11+     with venv; Debian's packages as root or through sudo
#   client libraries npm's into tests/clients/javascript/node_modules, PyPI's into target/clients-venv
#
# Everything comes from the package managers as this machine has them set up.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
mkdir -p target

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Runs a command as root, when there is a way that asks no question.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n env DEBIAN_FRONTEND=noninteractive "$@"
    else
        return 1
    fi
}

updated=
apt_install() {
    command -v apt-get >/dev/null || return 1
    export DEBIAN_FRONTEND=noninteractive
    say "installing Debian's $*"
    if [ -z "$updated" ]; then
        as_root apt-get update -qq >/dev/null || return 1
        updated=yes
    fi
    as_root apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# --- Node, before PostgreSQL: one way to get PostgreSQL needs npm -------------------------------
node_is_good() {
    command -v node >/dev/null && command -v npm >/dev/null &&
        node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)'
}
node_is_good || apt_install nodejs npm || true
node_is_good || die "Node 20 or later with npm is needed: install it, or run this as root on Debian"

# --- PostgreSQL ---------------------------------------------------------------------------------
if ! programs=$(scripts/find-postgres.sh); then
    [ -z "${PG_BIN:-}" ] || exit 1
    apt_install postgresql || true
    programs=$(scripts/find-postgres.sh) || programs=$(scripts/postgres.sh 17) ||
        die "no PostgreSQL: install its server programs, or set PG_BIN to the folder with initdb"
fi

# --- Python -------------------------------------------------------------------------------------
# ensurepip is what Debian's python3-venv adds; without it a venv has no pip.
python_is_good() {
    command -v python3 >/dev/null &&
        python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}
python_is_good || apt_install python3 python3-venv || true
python_is_good || die "Python 3.11 or later with venv is needed: install it, or run this as root on Debian"

# --- client libraries ---------------------------------------------------------------------------
# A copy of the list that was installed last marks that nothing is to be done.
same() { cmp -s "$1" "$2"; }

javascript=tests/clients/javascript
if ! same "$javascript/package-lock.json" "$javascript/node_modules/.installed"; then
    say "installing the JavaScript clients"
    (cd "$javascript" && npm ci --no-audit --no-fund --silent)
    cp "$javascript/package-lock.json" "$javascript/node_modules/.installed"
fi

venv=target/clients-venv
if ! same tests/clients/python/requirements.txt "$venv/.installed"; then
    say "installing the Python clients"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r tests/clients/python/requirements.txt
    "$venv/bin/pip" check >/dev/null
    cp tests/clients/python/requirements.txt "$venv/.installed"
fi

say "ready: $("$programs/postgres" --version), Node $(node --version), $(python3 --version)"
