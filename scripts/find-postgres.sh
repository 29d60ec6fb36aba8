#!/bin/sh
# Prints the folder with PostgreSQL's programs (initdb, pg_ctl, postgres); exits 1 when there is none.
#
# The order is the one `walcast dev` uses: PG_BIN, the path, pg_config, the usual folders, then what
# scripts/postgres.sh installed. PostgreSQL 14 is the oldest version walcast works with.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)

has_programs() {
    [ -x "$1/initdb" ] && [ -x "$1/pg_ctl" ] && [ -x "$1/postgres" ] || return 1
    version=$("$1/postgres" --version 2>/dev/null | sed 's/^[^0-9]*\([0-9]*\).*/\1/')
    [ "${version:-0}" -ge 14 ]
}

try() {
    if has_programs "$1"; then
        (cd "$1" && pwd)
        exit 0
    fi
}

if [ -n "${PG_BIN:-}" ]; then
    try "$PG_BIN"
    echo "PG_BIN is $PG_BIN, which does not hold initdb, pg_ctl and postgres of version 14 or later" >&2
    exit 1
fi

# The program on the path is often a link or, on Debian, a wrapper elsewhere: follow it.
for program in postgres initdb; do
    found=$(command -v "$program" 2>/dev/null) && try "$(dirname "$(readlink -f "$found")")"
done
if found=$(pg_config --bindir 2>/dev/null); then try "$found"; fi

for pattern in /usr/lib/postgresql /usr/pgsql- /opt/homebrew/opt/postgresql@ /usr/local/opt/postgresql@; do
    for major in 18 17 16 15 14; do
        case $pattern in
            /usr/lib/postgresql) try "$pattern/$major/bin" ;;
            *) try "$pattern$major/bin" ;;
        esac
    done
done
for folder in "$root/target/postgres" /var/tmp/walcast-postgres; do
    for major in 18 17 16 15 14; do
        try "$folder/$major/bin"
    done
done
exit 1
