#!/bin/sh
# demo.sh OUT: writes a sample checkpoint to OUT/demo and opens the terminal UI on it.
# Without a terminal it runs the same conversion on the command line and shows its report.
set -eu
out=$1
lens=${SHARDLENS:-$out/shardlens}
rm -rf "$out/demo" "$out/demo-hf"
"$lens" demo "$out/demo"
if [ -t 0 ] && [ -t 1 ]; then
    exec "$lens" "$out/demo"
fi
run() {
    echo
    echo "\$ shardlens $*"
    "$lens" "$@"
}
run inspect "$out/demo"
run convert "$out/demo" "$out/demo-hf" --to hf
run verify "$out/demo" "$out/demo-hf"
echo
echo "\$ ls -l $out/demo-hf"
ls -l "$out/demo-hf"
