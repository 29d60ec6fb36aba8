#!/bin/sh
# Starts and stops what the client tests run against. The suites call it, too.
#
#   stack.sh create | down | migrate
#   stack.sh postgres start|stop|restart
#   stack.sh walcast start|stop|kill|restart
#
# State, logs and process ids are in $STACK. Environment: STACK, PG_BIN, PG_PORT, PORT, WALCAST_BIN,
# JWT_SECRET, as run.sh sets them.
set -eu

# PostgreSQL refuses root: as root it runs as `postgres`, else `nobody`.
as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        user=nobody
        if id postgres >/dev/null 2>&1; then user=postgres; fi
        (cd "$STACK/postgres" && runuser -u "$user" -- env LC_ALL=C "$@")
    else
        (cd "$STACK/postgres" && env LC_ALL=C "$@")
    fi
}

create() {
    mkdir -p "$STACK/postgres"
    chmod 755 "$STACK"
    printf 'postgres\n' > "$STACK/postgres/password"
    if [ "$(id -u)" = 0 ]; then
        if id postgres >/dev/null 2>&1; then chown -R postgres "$STACK/postgres"; else chown -R nobody "$STACK/postgres"; fi
    fi
    as_postgres "$PG_BIN/initdb" --pgdata=data --username=postgres --auth=scram-sha-256 \
        --pwfile=password --encoding=UTF8 --locale=C --no-sync > "$STACK/initdb.log"
    # A short wal_sender_timeout: a server that forgets its feedback is noticed here.
    as_postgres tee -a data/postgresql.conf >/dev/null <<CONF
listen_addresses = '127.0.0.1'
port = $PG_PORT
unix_socket_directories = ''
wal_level = logical
wal_sender_timeout = 5s
shared_buffers = 32MB
fsync = off
timezone = UTC
log_timezone = UTC
log_line_prefix = '%m [%p] %u '
CONF
}

postgres() {
    case $1 in
        start) as_postgres "$PG_BIN/pg_ctl" --silent --wait --timeout=60 --pgdata=data --log=postgres.log start ;;
        stop) as_postgres "$PG_BIN/pg_ctl" --silent --wait --timeout=60 --pgdata=data --mode=fast stop ;;
        restart) postgres stop && postgres start ;;
    esac
}

# Runs walcast as a database user; it sees these variables and no others.
as_user() {
    login=$1
    shift
    exec env -i PATH="$PATH" HOME="${HOME:-/}" RUST_BACKTRACE=1 LOG_LEVEL="${LOG_LEVEL:-info}" \
        DATABASE_URL="postgres://$login@127.0.0.1:$PG_PORT/postgres" JWT_SECRET="$JWT_SECRET" \
        HOST=127.0.0.1 PORT="$PORT" WALCAST_SLOT=client_tests "$WALCAST_BIN" "$@"
}

walcast() {
    case $1 in
        start)
            rm -f "$STACK/walcast.code"
            # The subshell outlives this script and writes down the exit code.
            (
                as_user walcast:walcast serve >> "$STACK/walcast.log" 2>&1 &
                echo $! > "$STACK/walcast.pid"
                code=0
                wait $! || code=$?
                echo "$code" > "$STACK/walcast.code"
            ) > /dev/null 2>&1 < /dev/null &
            ;;
        stop) signal TERM && expect_code 0 ;;
        kill) signal KILL && expect_code 137 ;;
        restart) walcast stop && walcast start ;;
    esac
}

signal() { kill "-$1" "$(cat "$STACK/walcast.pid")"; }

# Waits for the end of walcast: ten seconds is what it promises for a shutdown.
expect_code() {
    tries=0
    until [ -s "$STACK/walcast.code" ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt 110 ]; then echo "walcast is still running after 11 s" >&2; return 1; fi
        sleep 0.1
    done
    code=$(cat "$STACK/walcast.code")
    [ "$code" = "$1" ] || { echo "walcast ended with code $code, not $1" >&2; return 1; }
}

down() {
    if [ -e "$STACK/walcast.pid" ] && [ ! -e "$STACK/walcast.code" ]; then walcast stop || walcast kill || true; fi
    if [ -e "$STACK/postgres/data/postmaster.pid" ]; then postgres stop; fi
}

case ${1:-} in
    create) create ;;
    migrate) (as_user postgres:postgres migrate --bootstrap) ;;
    postgres | walcast) "$1" "${2:?start, stop or restart}" ;;
    down) down ;;
    *) echo "usage: stack.sh create|migrate|down, stack.sh postgres|walcast start|stop|restart" >&2; exit 1 ;;
esac
