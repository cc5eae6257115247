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
# Packages of Python, kept beside the build, each set by itself.
python_packages() {
    if ! cmp -s "$2" "$1/requirements.txt"; then
        rm -rf "$1"
        # Each requirement is listed, so none is looked for.
        python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
            --no-deps --target "$1" -r "$2"
        cp "$2" "$1/"
    fi
}
# Of the reader that checks deployments, and of the server that plays AWS.
python_packages target/python tests/support/requirements.txt
python_packages target/moto tests/support/s3/requirements.txt
# Access keys of the stores that tests start: a client finds its keys in the environment.
export AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE
export AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
export AWS_EC2_METADATA_DISABLED=true
unset AWS_PROFILE AWS_REGION AWS_DEFAULT_REGION AWS_SESSION_TOKEN AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3
# A deployment's files belong to mysql; the package above makes the user.
getent passwd mysql >/dev/null || useradd --system --user-group --shell /usr/sbin/nologin mysql
# The program that the tests run; they fail without it, or with one that is older than the sources.
cargo build --locked --release -p colvault --features demo
# There are no doc tests; without them the run closes with the suite.
exec cargo test --workspace --locked --release --features colvault/demo --lib --bins --tests "$@"
