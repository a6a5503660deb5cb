#!/bin/sh
# Installs Debian's Chromium for the browser tests where this user may; otherwise says that they will be skipped.
[ -x /usr/bin/chromium ] && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "Installing Debian's Chromium for the browser tests ..."
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-dejavu-core >/dev/null && exit 0
fi
echo "NOTE: there is no /usr/bin/chromium and it could not be installed here: the browser tests will be SKIPPED." >&2
