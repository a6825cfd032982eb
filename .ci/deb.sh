#!/bin/sh
# deb.sh VERSION FOLDER: Debian packages of what is committed, into FOLDER. Needs debhelper. The
# maintainer is who builds: DEBFULLNAME and DEBEMAIL, as for Debian's own tools. Tests are left
# out unless DEB_BUILD_OPTIONS is set to something else than nocheck.
set -eu
version=$1 dir=$2
command -v dh >/dev/null 2>&1 || { echo "deb: debhelper is missing: apt-get install debhelper" >&2; exit 1; }
name=${DEBFULLNAME:-$(git config user.name || echo shardlens developers)}
mail=${DEBEMAIL:-$(git config user.email || echo "shardlens@$(hostname -f)")}
rm -rf "$dir"
mkdir -p "$dir"
git archive --prefix="shardlens-$version/" HEAD | tar -x -C "$dir"
tree=$dir/shardlens-$version
mv "$tree/.ci/debian" "$tree/debian"
sed -i "s|@MAINTAINER@|$name <$mail>|" "$tree/debian/control"
cat >"$tree/debian/changelog" <<CHANGES
shardlens ($version) unstable; urgency=medium

  * Version $version.

 -- $name <$mail>  $(git log -1 --format=%cD)
CHANGES
(cd "$tree" && DEB_BUILD_OPTIONS="${DEB_BUILD_OPTIONS:-nocheck}" dpkg-buildpackage -us -uc -b) >"$dir/log" 2>&1 || {
    tail -20 "$dir/log" >&2
    exit 1
}
if command -v lintian >/dev/null 2>&1; then
    lintian --allow-root --fail-on error,warning "$dir"/*.changes
fi
ls "$dir"/*.deb
