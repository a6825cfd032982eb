#!/bin/sh
# exports.sh SOVERSION < shardlens.h: the linker's version script for the shared library.
# Exports every function that the header declares and nothing else.
echo "SHARDLENS_$1 {"
echo "global:"
# a declaration starts in the first column and names a function sl_*
sed -n '/^typedef/!s/^[a-z][A-Za-z0-9_ *]*[ *]\(sl_[a-z0-9_]*\)(.*/    \1;/p'
echo "local: *;"
echo "};"
