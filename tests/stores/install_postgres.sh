#!/bin/sh
# Installs Debian's PostgreSQL for the tests of the stores where this user may; otherwise says that they will be skipped.
for program in "$(command -v postgres)" /usr/lib/postgresql/*/bin/postgres; do
    [ -x "$program" ] && exit 0
done
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "Installing Debian's PostgreSQL for the tests of the stores ..."
    mkdir -p /etc/postgresql-common
    # The tests run servers of their own; the one Debian would set up is not wanted.
    [ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Options::=--force-confold postgresql >/dev/null && exit 0
fi
echo "NOTE: there is no PostgreSQL server and it could not be installed here: its tests will be SKIPPED." >&2
