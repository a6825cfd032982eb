#!/bin/sh
# The man page in docs is the one that the program prints, every option and command of the help
# texts stands in it, and the completions are accepted by their shells.
set -eu
lens=${SHARDLENS:-build/shardlens}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

"$lens" manual | diff docs/shardlens.1 - || { echo "run make docs"; exit 1; }
"$lens" --help >"$tmp/help"
sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p' "$tmp/help" >"$tmp/commands"
test "$(wc -l <"$tmp/commands")" -ge 10
plain=$(sed 's/\\-/-/g; s/\\f[A-Z]//g' docs/shardlens.1)
while read -r command; do
    echo "$plain" | grep -q "^\.B shardlens $command" || { echo "$command is not in the man page"; exit 1; }
    "$lens" "$command" --help >"$tmp/$command"
    grep -o -e '--[a-z-]*' "$tmp/$command" | sort -u | while read -r option; do
        echo "$plain" | grep -q -e "$option" || { echo "$option of $command is not in the man page"; exit 1; }
    done
done <"$tmp/commands"
if command -v mandoc >/dev/null 2>&1; then
    mandoc -T lint -W style docs/shardlens.1
fi

for shell in bash zsh fish; do
    "$lens" completions $shell >"$tmp/completions.$shell"
    test -s "$tmp/completions.$shell"
    if command -v $shell >/dev/null 2>&1; then
        $shell -n "$tmp/completions.$shell"
    fi
done
