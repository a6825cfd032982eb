#!/bin/sh
# embed.sh FILE...: writes C source that holds each file, compressed (see embedded.h).
set -e
echo '#include "model/embedded.h"'
i=0
for f in "$@"; do
    echo "static const unsigned char file_$i[] = {"
    gzip -9nc "$f" | od -An -v -tu1 | sed 's/[0-9][0-9]*/&,/g'
    echo "};"
    i=$((i + 1))
done
echo 'const struct sl_embedded sl_embedded_files[] = {'
i=0
for f in "$@"; do
    echo "    {\"${f##*/}\", file_$i, sizeof file_$i, $(($(wc -c < "$f")))},"
    i=$((i + 1))
done
echo '};'
echo 'const size_t sl_embedded_count = sizeof sl_embedded_files / sizeof sl_embedded_files[0];'
