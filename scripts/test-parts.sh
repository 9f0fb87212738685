#!/usr/bin/env bash
# Builds the programs that tests/apiserver runs (kube-apiserver, kube-scheduler, kubectl) from Go modules, by
# tests/apiserver/go.mod, into a cache outside the checkout, once for each content of that folder's go.mod and go.sum.
#   scripts/test-parts.sh build   build what is missing, telling how far it is; waits for a build under way
#   scripts/test-parts.sh start   begin the build in the background, and return
#   scripts/test-parts.sh where   print the folder of the built programs; exit 1 where they are not built
# KUBEBUILDER_ASSETS, if set, is that folder, and nothing is built. Needs Go: any from 1.16 on, as the one that
# Kubernetes asks for is fetched as a Go module where the machine's own is older.
set -euo pipefail
cd "$(dirname "$0")/.."
self=$PWD/scripts/test-parts.sh
module=$PWD/tests/apiserver
programs=(kube-apiserver kube-scheduler kubectl)
version=$(awk '$1 == "require" && $2 == "k8s.io/kubernetes" { print $3 }' "$module/go.mod")
key=kubernetes-$version-$(cat "$module/go.mod" "$module/go.sum" | sha256sum | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kernelsecret/test-parts
folder=$cache/$key
log=$cache/$key.log
say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

toolchain() { # prints the go to build with: the machine's, or the module golang.org/toolchain of the wanted version
	local asked own found name architecture version sum
	asked=$(awk '$1 == "go" { print $2 }' "$module/go.mod")
	own=$(GOTOOLCHAIN=local go env GOVERSION)
	if [ "$(printf '%s\n' "$asked" "${own#go}" | sort -V | head -n 1)" = "$asked" ]; then
		command -v go
		return
	fi
	architecture=$(go env GOARCH)
	read -r name < <(grep -F ".linux-$architecture h1:" "$module/toolchain.sum") || {
		echo "go $own is too old, and tests/apiserver/toolchain.sum has no newer one for $architecture" >&2
		return 1
	}
	read -r _ version sum <<<"$name"
	# Outside of the module, whose go.mod an old go cannot read. Go itself checks the sum against the public database.
	found=$(cd "$folder.part" && GO111MODULE=on go mod download -json "golang.org/toolchain@$version")
	if ! grep -qF "\"Sum\": \"$sum\"" <<<"$found"; then
		printf 'golang.org/toolchain@%s is not what tests/apiserver/toolchain.sum says:\n%s\n' "$version" "$found" >&2
		return 1
	fi
	found=$(sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p' <<<"$found")
	# A module has no executable files; newer versions of go set the same bits.
	chmod a+x "$found"/bin/* "$found"/pkg/tool/*/*
	echo "$found/bin/go"
}

compile() { # into $folder.part; all that is said goes to the log
	local go number
	rm -rf "$folder.part"
	mkdir -p "$folder.part"
	go=$(toolchain)
	unset GOROOT
	export CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off GO111MODULE=on
	echo "building with $("$go" version)"
	IFS=. read -r major minor _ <<<"${version#v}"
	number=k8s.io/component-base/version
	cd "$module"
	"$go" mod download
	echo "packages: $("$go" list -mod=readonly -deps "${programs[@]/#/k8s.io/kubernetes/cmd/}" | wc -l)"
	"$go" build -v -mod=readonly -trimpath -o "$folder.part/" \
		-ldflags "-s -w -X $number.gitVersion=$version -X $number.gitMajor=$major -X $number.gitMinor=$minor" \
		"${programs[@]/#/k8s.io/kubernetes/cmd/}"
	# Whole at once: a build that is killed leaves nothing that looks like one.
	mv -T "$folder.part" "$folder"
	echo "built in $SECONDS s"
}

progress() { # one line about the build that writes the log
	local all done
	all=$(sed -n 's/^packages: //p' "$log" 2>/dev/null)
	done=$(grep -c '^[a-z.]*/' "$log" 2>/dev/null || true)
	if [ -z "$all" ]; then echo "fetching modules"; else echo "$done of at most $all packages compiled"; fi
}

watched() { # COMMAND...: run it, and tell every ten seconds how far the build is
	local rounds=0 pid
	set -m # in a process group of its own, so that it ends together with us
	"$@" &
	pid=$!
	set +m
	trap "kill -- -$pid 2>/dev/null" EXIT
	while kill -0 $pid 2>/dev/null; do
		sleep 0.2
		[ $((++rounds % 50)) -ne 0 ] || printf '    %s (%d s)\n' "$(progress)" "$SECONDS" >&3
	done
	trap - EXIT
	wait $pid
}

build() {
	mkdir -p "$cache"
	exec 3>&1 9>"$folder.lock"
	if ! flock --nonblock 9; then
		say "waiting for the programs of $key, which are being built ($log)"
		watched flock 9
	fi
	[ ! -d "$folder" ] || return 0
	say "building kube-apiserver, kube-scheduler and kubectl $version: minutes, once ($log)"
	if ! watched "$self" compile >"$log" 2>&1; then
		tail -n 30 "$log" >&2
		printf 'The build failed. The whole log: %s\n' "$log" >&2
		return 1
	fi
	say "$(tail -n 1 "$log")"
}

missing() { # whether nothing can be built here, and says why
	[ ! -d "$folder" ] && ! command -v go >/dev/null &&
		say "not building the API server of the tests: go is missing (Debian: golang-go)"
}

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
	[ "$1" != where ] || echo "$KUBEBUILDER_ASSETS"
	exit 0
fi
case ${1:-} in
build) missing || build ;;
compile) compile ;; # a process of its own, because bash forgets about `set -e` in a condition
start)
	[ ! -d "$folder" ] || exit 0
	missing && exit 0
	say "building the API server of the tests in the background ($log)"
	setsid --fork nice -n 10 "$self" build </dev/null >/dev/null 2>&1
	;;
where) [ -d "$folder" ] && echo "$folder" ;;
*)
	echo "usage: $0 build|start|where" >&2
	exit 2
	;;
esac
