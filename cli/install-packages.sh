#!/bin/sh
# install-packages.sh PROGRAM:PACKAGE...
# Installs the Debian package of every program that is not there. Elsewhere, or without the right to
# install, it says what is missing.
set -eu
wanted=""
for pair in "$@"; do
    program=${pair%%:*}
    PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null 2>&1 || wanted="$wanted ${pair#*:}"
done
[ -n "$wanted" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
    echo "missing packages, please install:$wanted" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of packages
apt-get install -y -qq --no-install-recommends $wanted
