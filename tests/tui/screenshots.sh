#!/bin/sh
# screenshots.sh: pictures of real runs of this build, into screenshots/.
# Needs libvterm, rsvg-convert (librsvg2-bin) and DejaVu Sans Mono (fonts-dejavu-core).
set -eu
program=$(realpath "${SHARDLENS:-build/shardlens}")
out=$(realpath "${OUT:-build}")
here=$PWD
command -v rsvg-convert >/dev/null || { echo "screenshots: rsvg-convert is missing: apt-get install librsvg2-bin fonts-dejavu-core" >&2; exit 2; }
mkdir -p "$out/tests/tui" screenshots
picture=$out/tests/tui/picture
${CC:-cc} -O1 -std=c11 -D_GNU_SOURCE -o "$picture" tests/tui/picture.c -lvterm -lutil

# short names for the pictures: everything happens in an empty folder
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$program" demo minicpm --tp 2 --pp 4 --size "${SHARDLENS_PICTURE_SIZE:-1500MB}" >/dev/null
"$program" demo llama --family llama --tp 4 --pp 2 --size 60MB >/dev/null
"$program" demo damaged --layout damaged --tp 2 --pp 4 --size 60MB >/dev/null

shot() {
    name=$1; shift
    "$picture" "$work/$name.svg" "$@"
    rsvg-convert "$work/$name.svg" -o "$here/screenshots/$name.png"
    echo "screenshots/$name.png"
}
shot overview 120x34 '?headers ' '?embedding' -- "$program" llama
shot damaged 120x34 '?CONVERTIBLE' f '?what' -- "$program" damaged
shot tree 120x34 '?headers ' 2 '/qkv layer:1-6' '
' '?match' -- "$program" llama
shot inspector 140x36 '?headers ' 2 '/layers.3. qkv.weight$
' '?match' '
' '?most' '~500' -- "$program" llama
shot mapping 120x34 '?headers ' 4 '?targets' jj '~300' -- "$program" llama
shot convert 120x34 '?headers ' 5 '?everything is ready' -- "$program" llama
shot run 120x34 '?headers ' 5 '?everything is ready' S '?verified' '~2500' -- "$program" minicpm
rm -rf minicpm-hf
shot report 120x34 '?headers ' 5 '?everything is ready' S '?DONE' 7 '?worst' -- "$program" llama
"$program" demo later --family llama --tp 4 --pp 2 --seed 5 --size 60MB >/dev/null
shot diff 120x34 '?headers ' 8 '
' '~200' later '
' '?DIFFERENT' '~1500' -- "$program" llama
shot sizes 120x34 '?headers ' 5 '?everything is ready' k ' ' '~300' ' ' '~300' ' ' '~600' j '~300' -- "$program" llama
shot small 40x10 '?fault' -- "$program" damaged
