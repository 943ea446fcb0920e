#!/bin/sh
# Cuts the power under real file systems: make powercut-disk
#
# powercut-disk (../shared/tools/powercut) serves a disk to ext4, XFS and btrfs of this kernel, runs
# tests/c/powercut_writer.c on it, loses any part of what was written since each flush, mounts what
# is left and runs tests/c/powercut_check.c. Needed: root, FUSE, loop devices, the fuse3 package and
# the file systems' mkfs. Missing packages are installed where there is apt-get.
#
#     SAMPLES=200      disks of each file system; at least two at each flush are tried
#     SEED=1           chooses them
#     BATCHES=60       how long the writer runs
#     FS="ext4 xfs btrfs"
#
# usage: powercut_disk.sh TARGET, with the release library in TARGET/release. Exit status: 0 all good,
# 1 a disk is bad, 2 something could not be tried.
set -u
target=$1
root=$(cd "$(dirname "$0")/.." && pwd)
source=$root/../shared/tools/powercut
work=$target/powercut-disk
samples=${SAMPLES:-200} seed=${SEED:-1} batches=${BATCHES:-60} systems=${FS:-ext4 xfs btrfs}

stop() {
    echo "powercut-disk: $*" >&2
    exit 2
}

[ -f "$source/Cargo.toml" ] || stop "../shared/tools/powercut is not there"
[ "$(id -u)" = 0 ] || stop "needs root, to mount"
[ -e /dev/fuse ] || stop "there is no /dev/fuse"
[ -e /dev/loop-control ] || stop "there is no /dev/loop-control"

packages=
command -v fusermount3 >/dev/null || packages="$packages fuse3"
for pair in ext4:e2fsprogs xfs:xfsprogs btrfs:btrfs-progs; do
    command -v "mkfs.${pair%:*}" >/dev/null || packages="$packages ${pair#*:}"
done
if [ -n "$packages" ]; then
    echo "powercut-disk: installing$packages"
    # shellcheck disable=SC2086 # several words
    { apt-get update -q && apt-get install -y -q --no-install-recommends $packages; } >/dev/null 2>&1 \
        || stop "could not install$packages"
fi

# The tool's folder may be read-only and has no Cargo.lock: it is built from a copy.
mkdir -p "$work/tmp" || exit 2
rm -rf "$work/source"
cp -r "$source" "$work/source" && chmod -R u+w "$work/source" || exit 2
"${CARGO:-cargo}" build --release --features disk --quiet \
    --manifest-path "$work/source/Cargo.toml" --target-dir "$work/build" || stop "could not build the tool"
for program in powercut_writer powercut_check; do
    "${CC:-cc}" -std=c99 -O1 -g -I"$root/include" "$root/tests/c/$program.c" -o "$work/$program" \
        -L"$target/release" -lduralog -pthread -Wl,-rpath,"$target/release" || exit 2
done

status=0
table=
for fs in $systems; do
    echo "== $fs, kernel $(uname -r)"
    TMPDIR=$work/tmp "$work/build/release/powercut-disk" --fs "$fs" --samples "$samples" --seed "$seed" \
        --check "$work/powercut_check log" -- "$work/powercut_writer" log "$batches" \
        >"$work/$fs.txt" 2>&1
    result=$?
    cat "$work/$fs.txt"
    # A writer that did not end well shows nothing; nor does a tool that could not mount.
    grep -q '^recorded: exit exit status: 0,' "$work/$fs.txt" || result=2
    [ $result -le $status ] || status=$result
    summary=$(grep ' disks mounted and checked' "$work/$fs.txt" || tail -n 1 "$work/$fs.txt")
    case $result in
    0) verdict=good ;;
    1) verdict=BAD ;;
    *) verdict='not tried' ;;
    esac
    table="$table$(printf '%-6s %-10s %s' "$fs" "$verdict" "$summary")
"
done
echo "== seed $seed"
printf '%s' "$table"
exit $status
