#!/usr/bin/env bash
# Makes .venv hold exactly what requirements.lock says, and the project itself as an editable install.
#   scripts/environment.sh build   Debian packages, uv, .venv (nothing to do: returns at once)
#   scripts/environment.sh tools   only uv, in .tools
# uv itself is installed from hashes too (scripts/bootstrap.lock), into an environment of its own, because
# Debian's Python takes no packages outside of one.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
# The system store of certificates, which knows the mirrors and proxies of the house.
export UV_SYSTEM_CERTS=true UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=${UV_LINK_MODE:-copy} PIP_DISABLE_PIP_VERSION_CHECK=1
say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

fresh() { # NAME KEY: whether the stamp NAME was made from KEY
	[ -f ".stamps/$1" ] && [ "$(<".stamps/$1")" = "$2" ]
}

tools() {
	local key
	key=$(sha256sum scripts/bootstrap.lock)
	if fresh tools "$key" && .tools/bin/uv --version >/dev/null 2>&1; then return; fi
	say "uv, in .tools"
	"$python" -m venv --clear .tools
	.tools/bin/pip install --quiet --require-hashes --requirement scripts/bootstrap.lock
	printf '%s' "$key" >.stamps/tools
}

environment() {
	local key
	key=$(
		sha256sum requirements.lock scripts/environment.sh
		sed -n '/^\[tool\./q;p' pyproject.toml
	)
	if fresh environment "$key" && .venv/bin/python -c '' 2>/dev/null; then return; fi
	say "Python environment in .venv, from requirements.lock"
	rm -f .stamps/environment
	.venv/bin/python -c '' 2>/dev/null || .tools/bin/uv venv --quiet --clear --no-project --python "$python" .venv
	.tools/bin/uv pip sync --quiet --python .venv/bin/python --require-hashes requirements.lock
	# The build is a step of its own, so that a broken program in C does not cost the environment.
	KERNELSECRET_BUILD=skip .tools/bin/uv pip install --quiet --python .venv/bin/python \
		--no-deps --no-build-isolation --editable .
	printf '%s' "$key" >.stamps/environment
}

mkdir -p .stamps
exec 9>.stamps/lock
flock 9

PYTHON=$python scripts/apt.sh build
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
	printf '%s is too old: Python 3.11 or newer is needed (name one: make PYTHON=/path/to/python3.11)\n' "$python" >&2
	exit 1
fi
tools
[ "${1:-build}" = tools ] || environment
