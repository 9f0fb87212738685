#!/usr/bin/env bash
# Resolves pyproject.toml into requirements.lock: every version and hash, for every platform, and no address.
# Where the packages come from is each machine's own setting. Arguments go to uv (for example --upgrade).
set -euo pipefail
cd "$(dirname "$0")/.."

export UV_SYSTEM_CERTS=true
scripts/environment.sh tools
common=(--universal --generate-hashes --python-version 3.11 --no-annotate --quiet
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock")

.tools/bin/uv pip compile "${common[@]}" "$@" --all-extras --output-file requirements.lock pyproject.toml
.tools/bin/uv pip compile "${common[@]}" "$@" --output-file scripts/bootstrap.lock scripts/bootstrap.in
printf 'requirements.lock: %s packages\n' "$(grep -c '==' requirements.lock)"
