#!/usr/bin/env bash
# Installs the Debian packages of scripts/apt-packages.txt that are missing for the given uses (build, test).
# Not root, or not Debian: names them and the command that installs them, and exits 1.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

holds() { # whether one proof holds
	case $1 in
	python:ensurepip) "$python" -c 'import ensurepip, venv' 2>/dev/null ;;
	python:headers) "$python" -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2>/dev/null ;;
	/*) [ -e "$1" ] ;;
	*) command -v "$1" >/dev/null ;;
	esac
}

there() {
	local proof
	for proof; do holds "$proof" && return; done
	return 1
}

missing=()
for use; do
	while read -r -a row; do
		[ "${row[0]:-}" = "$use" ] || continue
		there "${row[@]:2}" || missing+=("${row[1]}")
	done <scripts/apt-packages.txt
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
	printf 'Missing here, by the names of Debian 12: %s\nInstall what your distribution calls them, then try again.\n' "${missing[*]}" >&2
	exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
	printf 'Missing Debian packages: %s\nInstall them, then try again:\n\n  sudo apt-get install --no-install-recommends %s\n\n' \
		"${missing[*]}" "${missing[*]}" >&2
	exit 1
fi

printf '\033[1m==> Debian packages: %s\033[0m\n' "${missing[*]}"
# Some of them are servers: they are wanted as programs, so Debian is told to start none of them meanwhile.
policy=/usr/sbin/policy-rc.d
# Nor is a database made, which would run from the next boot on.
no_database=/etc/postgresql-common/createcluster.d/kernelsecret-tests.conf
trap 'rm -f "$no_database"' EXIT
mkdir -p "${no_database%/*}"
echo "create_main_cluster = false" >"$no_database"
if [ ! -e "$policy" ]; then
	trap 'rm -f "$no_database" "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } </dev/null >"$log" 2>&1; then
	tail -n 30 "$log" >&2
	printf 'apt-get failed (the whole log: %s)\n' "$log" >&2
	exit 1
fi
rm -f "$log"
