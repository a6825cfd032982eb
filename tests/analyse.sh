#!/bin/sh
# analyse.sh: cppcheck and clang-tidy over src, and the headers from C++.
# What is looked for, what fails and what is only shown: .clang-tidy, and below.
set -u
cd "$(dirname "$0")/.." || exit 2
out=${OUT:-build}
jobs=$(nproc 2>/dev/null || echo 2)
flags="-std=c11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Iinclude -Isrc -I$out/gen $(pkg-config --cflags libzip libcjson ncursesw)"
failed=0

for tool in cppcheck clang-tidy; do
    if ! command -v $tool >/dev/null 2>&1; then
        echo "analyse: $tool is not installed; sh .ci/deps.sh check installs it" >&2
        exit 1
    fi
done

echo "cppcheck"
# uninitvar takes arrays that a loop fills for unset (clang-tidy follows them better); headers may
# name an argument more fully than sources do; missing system headers are no finding
cppcheck -q -j "$jobs" --enable=warning,portability --std=c11 --inline-suppr --error-exitcode=1 \
    --suppress=uninitvar --suppress=funcArgOrderDifferent --suppress=missingIncludeSystem --suppress=unknownMacro --suppress=internalAstError \
    -D_GNU_SOURCE -D__linux__ -Iinclude -Isrc src || failed=1

echo "clang-tidy"
# shellcheck disable=SC2086 # flags are words
find src -name '*.c' | sort | xargs -P "$jobs" -n 4 sh -c '
    flags=$1; shift
    clang-tidy --quiet "$@" -- $flags 2>/dev/null' sh "$flags" >"$out/clang-tidy.log" 2>&1 || failed=1
grep -E 'warning:|error:' -A 4 "$out/clang-tidy.log"

echo "public headers from C++ and with -pedantic"
for header in include/shardlens/*.h; do
    ${CC:-cc} -std=c11 -pedantic -Wall -Wextra -Werror -Iinclude -fsyntax-only -x c "$header" || failed=1
    if command -v c++ >/dev/null 2>&1; then
        c++ -std=c++17 -pedantic -Wall -Wextra -Werror -Iinclude -fsyntax-only -x c++ "$header" || failed=1
    fi
done
[ $failed -eq 0 ] && echo "analyse: nothing that fails"
exit $failed
