#!/bin/sh
# Runs unmodified client libraries against a private PostgreSQL and a running walcast.
#
#   tests/clients/run.sh [javascript|python]     both without an argument
#
# WALCAST_BIN names the binary (target/debug/walcast without it), PG_BIN the folder of PostgreSQL's
# programs. KEEP_STACK=1 keeps the folder with the logs, whose name is printed at the end.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
suites=${1:-"javascript python"}

"$root/scripts/setup.sh"
PG_BIN=$("$root/scripts/find-postgres.sh")
WALCAST_BIN=${WALCAST_BIN:-$root/target/debug/walcast}
[ -x "$WALCAST_BIN" ] || { echo "$WALCAST_BIN is missing: cargo build, or set WALCAST_BIN" >&2; exit 1; }

STACK=$(mktemp -d "${TMPDIR:-/var/tmp}/walcast-clients.XXXXXX")
# Two ports that are free right now; both stay the same over restarts, so that clients find back.
ports=$(node "$here/javascript/free-ports.mjs" 2)
PG_PORT=${ports% *}
PORT=${ports#* }
JWT_SECRET=client-tests-secret-of-at-least-32-bytes
export PG_BIN WALCAST_BIN STACK PG_PORT PORT JWT_SECRET

finish() {
    code=$?
    trap - EXIT INT TERM
    "$here/stack.sh" down || true
    if [ "$code" != 0 ] && [ -s "$STACK/walcast.log" ]; then
        echo "--- the last lines of walcast's log" >&2
        tail -n 60 "$STACK/walcast.log" >&2
    fi
    if [ -n "${KEEP_STACK:-}" ]; then echo "logs: $STACK"; else rm -rf "$STACK"; fi
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

"$here/stack.sh" create
"$here/stack.sh" postgres start
"$here/stack.sh" migrate
node "$here/javascript/apply.mjs" "$here/schema.sql"
"$here/stack.sh" walcast start

failed=
for suite in $suites; do
    echo "== $suite"
    case $suite in
        javascript) (cd "$here/javascript" && npm test --silent) || failed="$failed $suite" ;;
        python) (cd "$here/python" && "$root/target/clients-venv/bin/python" -W ignore::DeprecationWarning -m unittest -v) || failed="$failed $suite" ;;
        *) echo "no suite $suite: javascript or python" >&2; exit 1 ;;
    esac
done
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
