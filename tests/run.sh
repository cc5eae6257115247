#!/bin/sh
# Installs what the tests need and runs them all. Needs root (owners, mounts, a full file system);
# on Debian and Ubuntu missing packages are installed.
set -eu
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
    echo "tests/run.sh: run it as root: the tests set owners and mount small file systems" >&2
    exit 1
fi
cli/install-packages.sh cc:gcc python3:python3 pip3:python3-pip b3sum:b3sum mkfs.ext4:e2fsprogs mount:mount \
    mariadbd:mariadb-server mariadb-install-db:mariadb-server
# Packages of the reader that checks deployments; kept beside the build.
packages=target/python
if ! cmp -s tests/support/requirements.txt "$packages/requirements.txt"; then
    rm -rf "$packages"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --target "$packages" -r tests/support/requirements.txt
    cp tests/support/requirements.txt "$packages/"
fi
# A deployment's files belong to mysql; the package above makes the user.
getent passwd mysql >/dev/null || useradd --system --user-group --shell /usr/sbin/nologin mysql
# The program that the tests run; they fail without it, or with one that is older than the sources.
cargo build --locked --release -p colvault --features demo
# There are no doc tests; without them the run closes with the suite.
exec cargo test --workspace --locked --release --features colvault/demo --lib --bins --tests "$@"
