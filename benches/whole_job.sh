#!/bin/sh
# The whole job beside restic, rustic, borg and cp: everything the tables in benches/results come
# from, in one run. Takes one to two hours on two cores and 60 GB of disk; Debian, as root.
#   benches/whole_job.sh WORK [OUTPUT]
# WORK is an empty directory on the disk to measure (ext4). Repositories on tmpfs go to /dev/shm.
# NIGHTS="DIR DIR ..." adds the bytes stored for nights of a real deployment. PARTS chooses:
# tmpfs dense disk huge files million sizes s3 memory. BUCKET_BYTES is what s3 backs up.
set -eu
cd "$(dirname "$0")/.."
work=$(realpath "$1")
output=${2:-benches/results/$(date +%F)-whole-job.md}
parts=${PARTS:-tmpfs dense disk huge files million sizes s3 memory}
rounds=${ROUNDS:-5}
cli/install-packages.sh rsync:rsync
benches/peers.sh >/dev/null
cargo build --quiet --locked --release -p colvault -p colvault-benches --features colvault-benches/s3
jobs=target/release/jobs
generate=$(realpath target/release/generate)
mkdir -p "$work" "$(dirname "$output")"

say() { printf '%s\n' "$@" >>"$output"; }
# part NAME TITLE COMMAND...: runs a measurement and appends what it prints.
part() {
    name=$1
    title=$2
    shift 2
    case " $parts " in *" $name "*) ;; *) return 0 ;; esac
    echo "== $title" >&2
    say "" "## $title" ""
    "$@" >>"$output"
    rm -rf "$work/run" /dev/shm/colvault-bench
}
source_of() {
    name=$1
    shift
    [ -d "$work/$name" ] || "$generate" "$work/$name" --seed 7 "$@" >/dev/null
}
night="$generate \"\$1\" --night 1 --kind append --share 0.03 >/dev/null"

: >"$output"
say "# The whole job, $(date +%F)" "" \
    "\`benches/whole_job.sh\`, $(nproc) cores, $(awk '/MemTotal/ {printf "%.0f", $2 / 1048576}' /proc/meminfo) GiB, \
$(findmnt -no FSTYPE -T "$work"), kernel $(uname -r | cut -d- -f1). How it is measured: benches/README.md."

source_of generated --bytes 1600M
part tmpfs "1.6 GB generated, repositories on tmpfs" $jobs times --work "$work/run" \
    --repositories /dev/shm/colvault-bench --source "$work/generated" --rounds "$rounds" --night "$night"
case " $parts " in *" dense "*) source_of dense --bytes 1200M --unpacked-ratio 5 ;; esac
part dense "1.2 GB generated, unpacked five times as large as packed, repositories on tmpfs" $jobs times \
    --work "$work/run" --repositories /dev/shm/colvault-bench --source "$work/dense" --rounds "$rounds" \
    --night "$night"
rm -rf "$work/dense"
part disk "1.6 GB generated, repositories on disk" $jobs times --work "$work/run" \
    --source "$work/generated" --rounds "$rounds" --night "$night"

case " $parts " in *" huge "*)
    mkdir -p "$work/huge"
    find "$work/generated/var/lib/columnstore" -name '*.cdf' -size +1M | sort | xargs cat >"$work/huge/FILE000.cdf"
    ;;
esac
part huge "One file of 1.6 GB" $jobs times --work "$work/run" --source "$work/huge" --rounds "$rounds"
rm -rf "$work/huge"

case " $parts " in *" files "*) source_of files --files 100000 ;; esac
part files "100,000 files" $jobs times --work "$work/run" --source "$work/files" --rounds "$rounds" --no-ceiling
rm -rf "$work/files"

case " $parts " in *" million "*) source_of million --files 1000000 ;; esac
part million "A million files" $jobs times --work "$work/run" --source "$work/million" --rounds 1 \
    --tools colvault,restic,rustic,borg --no-restore --no-ceiling
rm -rf "$work/million"

part sizes "Bytes stored, generated nights: 3 % rows, updates, 3 % rows, all of it" $jobs sizes --work "$work/run" \
    "$work/generated" --count 4 \
    --night "case \$2 in 2) k=update ;; 4) k=mixed ;; *) k=append ;; esac; $generate \"\$1\" --night \$2 --kind \$k --share 0.03 >/dev/null"
# shellcheck disable=SC2086 # a list of folders
[ -z "${NIGHTS:-}" ] || part sizes "Bytes stored, nights of a real deployment" $jobs sizes --work "$work/run" $NIGHTS

case " $parts " in *" s3 "*) source_of bucket --bytes "${BUCKET_BYTES:-1200M}" ;; esac
for latency in 0 30; do
    part s3 "Repositories in a bucket on loopback, $latency ms before each request" $jobs bucket --work "$work/run" \
        --repositories /dev/shm/colvault-bench --source "$work/bucket" --rounds "$rounds" --latency "$latency" \
        --tools colvault,colvault-packed,restic,rustic --night "$night"
done
rm -rf "$work/bucket"

case " $parts " in *" memory "*) source_of large --bytes 10000M ;; esac
part memory "10 GB generated: memory" $jobs times --work "$work/run" --source "$work/large" --rounds 1 \
    --tools colvault,cp --no-ceiling
rm -rf "$work/large"
echo "written to $output" >&2
