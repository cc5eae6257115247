#!/bin/sh
# Builds colvault and runs its main job on the bundled sample of a real deployment: four nights,
# backed up, restored and compared. Arguments go to `colvault demo`.
set -eu
cd "$(dirname "$0")/.."
cli/install-packages.sh cc:gcc
echo 'building colvault, which takes some minutes the first time' >&2
exec cargo run --quiet --locked --release -p colvault --features demo -- demo "$@"
