#!/bin/sh
# lint.sh: rules of this repository that no compiler knows. Prints FILE:LINE: what is wrong.
#
#  - a room includes only itself, the rooms above it and src/base; the command line and the
#    terminal UI include only include/shardlens and src/base
#  - files are read and written through src/base/io.c alone; below src/cli and src/tui nothing
#    prints, exits or runs a program
#  - functions that can't be used safely are not used
#  - no unfinished notes, no paths of somebody's machine, no trailing blanks
set -u
cd "$(dirname "$0")/.." || exit 2

# say FILE:LINE:TEXT lines on standard input, with a reason
say() {
    while IFS= read -r line; do
        [ -n "$line" ] && echo "$line   <- $1"
    done >"$tmp/said"
    if [ -s "$tmp/said" ]; then
        cat "$tmp/said"
        touch "$tmp/found"    # a variable would be lost: this is the end of a pipe
    fi
}
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT

# ---- include directions ----
rooms="base format checkpoint model layout plan run api"
above=
for room in $rooms; do
    above="$above|$room"
    grep -nH '^#include "' src/"$room"/*.[ch] 2>/dev/null |
        grep -Ev "#include \"(${above#|})/[a-z_0-9]+\.h\"" | say "src/$room may include only: ${above#|}"
done
for room in cli tui; do
    also=
    [ $room = cli ] && also='|tui/tui'      # the program opens the terminal UI
    grep -nH '^#include "' src/$room/*.[ch] 2>/dev/null |
        grep -Ev "#include \"(base/[a-z_0-9]+|$room/[a-z_0-9]+$also)\.h\"" | say "src/$room may include only base, $room and shardlens/"
done
for room in base format; do
    grep -nH '#include <shardlens/shardlens.h>' src/"$room"/*.[ch] 2>/dev/null |
        say "these rooms know only shardlens/types.h of the public headers"
done
grep -nH '^#include "' include/shardlens/*.h | say "public headers include only <...>"

# ---- functions, looked for in code without comments ----
mkdir -p "$tmp/code"
for f in $(find src include tests -name '*.[ch]' | sort); do
    mkdir -p "$tmp/code/$(dirname "$f")"
    # comments and string literals out, lines kept
    awk '
        BEGIN { comment = 0 }
        {
            line = $0; out = ""
            while (line != "") {
                if (comment) {
                    i = index(line, "*/")
                    if (!i) { line = ""; break }
                    line = substr(line, i + 2); comment = 0
                } else if (substr(line, 1, 2) == "/*") { comment = 1; line = substr(line, 3) }
                else if (substr(line, 1, 2) == "//") line = ""
                else if (match(line, /^"([^"\\]|\\.)*"/)) { out = out "\"\""; line = substr(line, RLENGTH + 1) }
                else if (match(line, /^\047([^\047\\]|\\.)*\047/)) { out = out "0"; line = substr(line, RLENGTH + 1) }
                else { out = out substr(line, 1, 1); line = substr(line, 2) }
            }
            print out
        }' "$f" >"$tmp/code/$f"
done
calls() { # calls NAMES PATHS...: lines that call one of the functions themselves
    names=$1
    shift
    (cd "$tmp/code" && grep -nEHr "(^|[^A-Za-z0-9_.>])($names) *\(" "$@" 2>/dev/null)
}
calls 'strcpy|stpcpy|strcat|sprintf|vsprintf|gets|atoi|atol|atoll|atof|tmpnam|mktemp|alloca' src include |
    say "can't be used safely"
calls 'system|popen|dlopen|execl|execlp|execle|execv|execvp|execve|execvpe|posix_spawn|posix_spawnp|fork|vfork|socket|connect' src include |
    grep -v '^src/tui/keeper\.c:[0-9]*:.*fork()' | say "this program runs no programs and opens no sockets"
for room in $rooms; do
    calls 'printf|vprintf|fprintf|vfprintf|puts|fputs|putchar|putc|perror|exit|_exit|quick_exit' "src/$room" |
        say "nothing below src/cli and src/tui prints or exits"
    calls 'pread|pwrite|preadv|pwritev|read|write|readv|writev|fopen|fdopen|fread|fwrite|open|creat|sendfile|mmap' "src/$room" |
        grep -v -e '^src/base/io\.c:' -e 'mmap *(.*MAP_ANONYMOUS' | say "files are read and written through base/io.h"
    calls 'pthread_create' "src/$room" | grep -v -e '^src/base/pool\.c:' -e '^src/run/' |
        say "threads are made in base/pool.c and src/run only"
done
calls 'pread|pwrite|fopen|fread' src/cli | say "files are read and written through base/io.h"

# ---- words and paths ----
text() { git ls-files -co --exclude-standard -- "$@" | grep -Ev '^tests/lint\.sh$|\.(png|pt|bin|safetensors)$' | while read -r f; do [ -f "$f" ] && printf '%s\0' "$f"; done; }
text . | xargs -0 grep -nHEI '\b(TO[D]O|FIX[M]E|XX[X])\b|[Pp]laceh[o]lder|\b[Ff]or [n]ow\b' | say "no unfinished notes"
text . | xargs -0 grep -nHEI '(^|[^A-Za-z0-9_.-])/(work|opt|root)/' | say "no paths of one machine"
text . | xargs -0 grep -nHEI 'pypi\.org|deb\.debian\.org|files\.pythonhosted|proxy\.golang' | say "no hosts of package registries"
text src include tests Makefile README.md docs .ci | grep -zEv '^tests/(fixtures|golden)' | xargs -0 grep -nHEI '[ 	]+$' | say "trailing blanks"
text src include | grep -zE '\.[ch]$' | xargs -0 grep -nHP '\t' | say "tabs"
for f in $(git ls-files -co --exclude-standard -- src include | grep -E '\.[ch]$'); do
    [ -f "$f" ] || continue
    case $(head -c 3 "$f") in
    "/* ") ;;
    *) echo "$f:1: begins without a sentence that says what it is" ;;
    esac
done | say "see docs/development.md"

if command -v shellcheck >/dev/null 2>&1; then
    git ls-files -co --exclude-standard -- '*.sh' .ci/run | xargs shellcheck -S warning || touch "$tmp/found"
fi
[ -e "$tmp/found" ] && exit 1
echo "lint: the rules of the repository hold"
