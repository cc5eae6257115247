#!/bin/sh
# Installs the tools that colvault is measured against, into DIR (default: peers/ in the target
# folder), and says which versions. Used by the whole-job bench only; neither tests nor CI need it.
#   benches/peers.sh [DIR]
# restic comes from the distribution, rustic from crates.io, borg from PyPI. Debian, as root.
set -eu
cd "$(dirname "$0")/.."
peers=${1:-target/peers}
cli/install-packages.sh cc:gcc restic:restic python3:python3-venv pkg-config:pkg-config
mkdir -p "$peers/bin"
[ -x "$peers/bin/restic" ] || ln -sf "$(command -v restic)" "$peers/bin/restic"
if [ ! -x "$peers/bin/rustic" ]; then
    # Its own features for scripts, metrics and the screen change nothing about the work measured.
    CARGO_TARGET_DIR="$peers/build" cargo install rustic-rs --version 0.11.4 --locked \
        --no-default-features --root "$peers"
    rm -rf "$peers/build"
fi
if [ ! -x "$peers/bin/borg" ]; then
    cli/install-packages.sh x:libssl-dev x:libacl1-dev x:liblz4-dev x:libzstd-dev x:libxxhash-dev \
        g++:g++ Python.h:python3-dev
    python3 -m venv "$peers/borg"
    "$peers/borg/bin/pip" install --quiet 'borgbackup==1.4.5'
    ln -sf ../borg/bin/borg "$peers/bin/borg"
fi
for tool in restic rustic borg; do
    "$peers/bin/$tool" --version 2>/dev/null || "$peers/bin/$tool" version
done
