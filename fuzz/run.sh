#!/bin/sh
# Builds every fuzz target with coverage and runs each for some seconds (10 unless given).
#   fuzz/run.sh [SECONDS] [TARGET...]
#   fuzz/run.sh build              only builds them
# Works with the stable compiler: the engine has no unsafe code that a sanitizer would watch.
set -eu
cd "$(dirname "$0")"
seconds=${1:-10}
[ $# -gt 0 ] && shift
targets=${*:-$(sed -n 's/^name = "\(.*\)"/\1/p' Cargo.toml | grep -v colvault)}
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
# A target triple keeps these flags away from build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --target "$host" --bins
[ "$seconds" != build ] || exit 0
for target in $targets; do
    mkdir -p "corpus/$target" artifacts
    echo "fuzzing $target for $seconds s"
    "${CARGO_TARGET_DIR:-target}/$host/release/$target" -max_total_time="$seconds" -timeout=20 \
        -rss_limit_mb=2048 -artifact_prefix="artifacts/$target-" -max_len=65536 \
        -print_final_stats=0 -verbosity=0 "corpus/$target" \
        || { echo "fuzz target $target failed: see fuzz/artifacts" >&2; exit 1; }
done
echo "$(echo "$targets" | wc -w) fuzz targets passed"
