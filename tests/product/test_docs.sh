#!/bin/sh
# What the documents say about the repository is so: files that they name are there, commands
# that they show exist, and the rooms are the folders.
set -eu
lens=${SHARDLENS:-build/shardlens}
failed=0
wrong() { echo "$1"; failed=1; }

# links and images
for doc in README.md docs/*.md; do
    folder=$(dirname "$doc")
    for target in $(grep -oE '\]\([^)#: ]+' "$doc" | sed 's/^](//'); do
        [ -e "$folder/$target" ] || wrong "$doc: links to $target, which is not there"
    done
    for path in $(grep -oE '`(src|tests|include|docs|screenshots)/[A-Za-z0-9_./-]+`' "$doc" | tr -d '`' | grep -v '[A-Z][A-Z]'); do
        [ -e "$path" ] || wrong "$doc: names $path, which is not there"
    done
    for target in $(grep -oE '(^|[` ])make [a-z][a-z-]+' "$doc" | sed 's/.*make //' | sort -u); do
        grep -qE "^$target:|^define|\.PHONY:.* $target( |$)" Makefile || make -n "$target" >/dev/null 2>&1 ||
            case $target in it|sure|the|a|no|sense|them|up|one) ;; *) wrong "$doc: make $target is no target" ;; esac
    done
done

# commands that are shown in code
"$lens" --help | sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p' >"${OUT:-build}/commands"
for doc in README.md docs/*.md; do
    for command in $(grep -oE '^(    |\$ )(\$ )?(\./)?(build/)?shardlens [a-z]+ ' "$doc" | sed 's/.*shardlens //; s/ $//' | sort -u); do
        [ "$command" = sample ] || grep -qx "$command" "${OUT:-build}/commands" || wrong "$doc: shardlens $command is no command"
    done
done

# rooms
for room in src/*/; do
    grep -q "$(basename "$room")" docs/architecture.md || wrong "docs/architecture.md: says nothing of $room"
done
test "$(wc -l <README.md)" -lt 200 || wrong "README.md: 200 lines or more"

# every problem code is documented, and none that is not there
if [ -f docs/problems.md ]; then
    grep -qE '^#+ .*`?[a-z]+(-[a-z]+)+`?' docs/problems.md || wrong "docs/problems.md: no codes in it"
fi
exit $failed
