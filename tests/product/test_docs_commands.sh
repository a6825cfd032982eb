#!/bin/sh
# Every command that README and docs show in a ```console block is run, page by page in an empty
# folder, and says what the page says. A line "..." in a page stands for any number of lines, "..."
# within a line for anything. A command must succeed unless the page goes on with "$ echo $?".
# With names of pages as arguments only those are looked at.
set -u
lens=${SHARDLENS:-build/shardlens}
root=$(pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/bin" && ln -s "$root/$lens" "$tmp/bin/shardlens"
failed=0 commands=0

# The commands of a page as a shell script that marks where each begins and how it ended;
# what the page says, with the same marks, goes to a second file.
split_page() {
    awk -v script="$2" -v said="$3" '
        function close_command() {
            if (command == "") return
            n++
            printf "printf \"\\n@@ %d\\n\"\n(exit ${s:-0})\n%s\ns=$?; printf \"\\n@@ $s\\n\"\n", n, command > script
            gsub(/\n/, "\\n", command)
            printf "@@ %d\t%s\n%s", n, command, output > said
            command = output = ""
        }
        BEGIN { printf "" > script; printf "" > said }
        /^```/ { if (inside) close_command(); inside = !inside && $0 == "```console"; next }
        !inside { next }
        /^> / && command != "" && output == "" { command = command "\n" substr($0, 3); next }
        /^\$ / { close_command(); command = substr($0, 3); next }
        { output = output $0 "\n" }
        END { printf "@@ end\n" > said }' "$1"
}

# What was said against what the page says; prints what differs.
compare() {
    awk -v page="$1" '
        # "..." in a line of the page stands for anything
        function alike(said_line, page_line,   parts, n, i, at, rest) {
            n = split(page_line, parts, "[.][.][.]")
            if (n < 2) return said_line == page_line
            rest = said_line
            for (i = 1; i <= n; i++) {
                if (parts[i] == "") continue
                at = index(rest, parts[i])
                if (!at || (i == 1 && at != 1)) return 0
                rest = substr(rest, at + length(parts[i]))
            }
            return parts[n] == "" || substr(said_line, length(said_line) - length(parts[n]) + 1) == parts[n]
        }
        # line i of the page from there on matches what was said from line j on
        function matches(i, j,   k) {
            for (; i <= wanted; i++) {
                if (want[i] == "...") {
                    for (k = j; k <= got + 1; k++)
                        if (matches(i + 1, k)) return 1
                    return 0
                }
                if (j > got || !alike(have[j], want[i])) return 0
                j++
            }
            return j > got
        }
        function judge(   i) {
            if (!matches(1, 1)) {
                printf "%s: $ %s\n  the page says:\n", page, command
                for (i = 1; i <= wanted; i++) print "    " want[i]
                print "  it said:"
                for (i = 1; i <= got; i++) print "    " have[i]
                bad = 1
            }
            if (status != 0 && next_command != "echo $?") {
                printf "%s: $ %s\n  exit status %s, and the page does not say so\n", page, command, status
                bad = 1
            }
        }
        # what was said up to the mark that ends this command
        function read_said(   line) {
            got = 0
            while ((getline line < said) > 0) {
                # each mark is printed on a line of its own, whether or not the output ended in one
                if (line ~ /^@@ [0-9]+$/ && begun) {
                    if (got && have[got] == "") got--
                    status = substr(line, 4)
                    begun = 0
                    return 1
                }
                if (line ~ /^@@ [0-9]+$/) { begun = 1; got = 0; continue }
                have[++got] = line
            }
            status = "none: the shell ended"
            return 0
        }
        /^@@ / {
            next_command = substr($0, index($0, "\t") + 1)
            if (command != "") { read_said(); judge() }
            command = next_command
            wanted = 0
            next
        }
        { want[++wanted] = $0 }
        END { exit bad }' said="$3" "$2"
}

for page in ${*:-README.md docs/*.md docs/*/*.md}; do
    folder=$tmp/page
    rm -rf "$folder" && mkdir "$folder"
    split_page "$page" "$tmp/script" "$tmp/wanted"
    count=$(grep -c '^@@ [0-9]' "$tmp/wanted")
    [ "$count" -eq 0 ] && continue
    commands=$((commands + count))
    # the pages' folder is called as in the pages: nothing of this machine
    (cd "$folder" && PATH=$tmp/bin:$PATH COLUMNS=100 TZ=UTC LC_ALL=C.UTF-8 sh "$tmp/script" </dev/null) >"$tmp/said" 2>&1
    compare "$page" "$tmp/wanted" "$tmp/said" || failed=1
done
echo "$commands commands"
exit $failed
