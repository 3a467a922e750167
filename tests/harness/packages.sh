#!/bin/sh
# packages.sh PACKAGE:FILE...: install the Debian packages whose file is not there.
# FILE "venv" asks whether python3 can make virtual environments.
set -eu
missing=
for item in "$@"; do
    package=${item%%:*} file=${item#*:}
    if [ "$file" = venv ]; then
        python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing $package"
    elif ! [ -e "$file" ]; then
        missing="$missing $package"
    fi
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing system packages:$missing (Debian: apt-get install$missing)" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# A mirror may fail for a moment, and another apt be at work (unattended-upgrades).
retries="-o Acquire::Retries=10 -o DPkg::Lock::Timeout=300"
# shellcheck disable=SC2086
apt-get update -qq $retries
# shellcheck disable=SC2086
apt-get install -y -qq $retries --no-install-recommends $missing >/dev/null
