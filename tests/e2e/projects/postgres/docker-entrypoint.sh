#!/usr/bin/env bash
set -Eeo pipefail

initialize() {
	mkdir "$PGDATA/base"
	echo "$PG_MAJOR" > "$PGDATA/PG_VERSION"
	local f
	for f in /docker-entrypoint-initdb.d/*; do
		case "$f" in
			*.sh) echo "$0: sourcing $f"; . "$f" ;;
			*.sql) echo "$0: running $f"; psql -f "$f" ;;
			*) echo "$0: ignoring $f" ;;
		esac
	done
	echo 'PostgreSQL init process complete; ready for start up.'
}

if [ "$1" = 'postgres' ]; then
	if [ "$(id -u)" = '0' ]; then
		find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
		chmod 700 "$PGDATA"
		exec gosu postgres "$BASH_SOURCE" "$@"
	fi
	if [ -s "$PGDATA/PG_VERSION" ]; then
		echo 'PostgreSQL Database directory appears to contain a database; Skipping initialization'
	else
		[ -n "$POSTGRES_PASSWORD" ] || { echo 'Error: superuser password is not specified.' >&2; exit 1; }
		initialize
	fi
fi
exec "$@"
