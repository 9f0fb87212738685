#!/usr/bin/env bash
# Builds the programs that tests run and Debian does not have, from Go modules, into a cache outside the checkout, once
# for each content of the files that say what they are built from. The parts, in the order in which they are built:
#   kubernetes   kube-apiserver, kube-scheduler and kubectl, by go.mod and go.sum of tests/apiserver
#   vault        HashiCorp Vault (server, agent and CLI are one program), by tests/vault/part
# Usage:
#   scripts/test-parts.sh build [PART...]   build what is missing of them (of all), telling how far it is; waits for a
#                                           build under way
#   scripts/test-parts.sh start             begin the build of all in the background, and return
#   scripts/test-parts.sh where PART        print the folder of the built programs; exit 1 where they are not built
# KUBEBUILDER_ASSETS (a folder) and VAULT_BIN (a program), if set, are these parts, and they are not built. Needs Go: any
# from 1.16 on, as the one that Kubernetes asks for is fetched as a Go module where the machine's own is older.
set -euo pipefail
cd "$(dirname "$0")/.."
self=$PWD/scripts/test-parts.sh
toolchains=tests/apiserver/toolchain.sum
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kernelsecret/test-parts
parts=(kubernetes vault)
say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

part() { # NAME: the part that all else here is about
	part=$1
	case $part in
	kubernetes)
		programs="kube-apiserver, kube-scheduler and kubectl" brought=${KUBEBUILDER_ASSETS:-}
		module=tests/apiserver sources=("$module/go.mod" "$module/go.sum")
		version=$(awk '$1 == "require" && $2 == "k8s.io/kubernetes" { print $3 }' "$module/go.mod")
		;;
	vault)
		programs="Vault" brought=${VAULT_BIN:+$(dirname "$VAULT_BIN")}
		module=tests/vault/part sources=("$module/module.sum" "$module/go.sum" "$module/module.patch")
		version=$(cut -d' ' -f2 "$module/module.sum")
		;;
	*)
		echo "no such part: $part (there are: ${parts[*]})" >&2
		return 2
		;;
	esac
	key=$part-$version-$(cat "${sources[@]}" | sha256sum | cut -c1-12)
	folder=$cache/$key
	log=$cache/$key.log
}

fetched() { # MODULE VERSION SUM FILE: prints the folder of a module, which has this sum, as FILE says
	local found
	# Outside of any module. Go itself checks the sum against the public database.
	found=$(cd "$folder.part" && GO111MODULE=on go mod download -json "$1@$2")
	if ! grep -qF "\"Sum\": \"$3\"" <<<"$found"; then
		printf '%s@%s is not what %s says:\n%s\n' "$1" "$2" "$4" "$found" >&2
		return 1
	fi
	sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p' <<<"$found"
}

toolchain() { # prints the go to build with: the machine's, or the module golang.org/toolchain of the wanted version
	local asked own found name architecture version sum
	asked=$(awk '$1 == "go" { print $2 }' tests/apiserver/go.mod)
	own=$(GOTOOLCHAIN=local go env GOVERSION)
	if [ "$(printf '%s\n' "$asked" "${own#go}" | sort -V | head -n 1)" = "$asked" ]; then
		command -v go
		return
	fi
	architecture=$(go env GOARCH)
	read -r name < <(grep -F ".linux-$architecture h1:" "$toolchains") || {
		echo "go $own is too old, and $toolchains has no newer one for $architecture" >&2
		return 1
	}
	read -r _ version sum <<<"$name"
	found=$(fetched golang.org/toolchain "$version" "$sum" "$toolchains")
	# A module has no executable files; newer versions of go set the same bits.
	chmod a+x "$found"/bin/* "$found"/pkg/tool/*/*
	echo "$found/bin/go"
}

compile_kubernetes() { # GO
	local number=k8s.io/component-base/version major minor names=(kube-apiserver kube-scheduler kubectl)
	IFS=. read -r major minor _ <<<"${version#v}"
	cd "$module"
	"$1" mod download
	echo "packages: $("$1" list -mod=readonly -deps "${names[@]/#/k8s.io/kubernetes/cmd/}" | wc -l)"
	"$1" build -v -mod=readonly -trimpath -o "$folder.part/" \
		-ldflags "-s -w -X $number.gitVersion=$version -X $number.gitMajor=$major -X $number.gitMinor=$minor" \
		"${names[@]/#/k8s.io/kubernetes/cmd/}"
}

compile_vault() { # GO
	local name sum copy=$folder.part/module found
	read -r name _ sum <"$module/module.sum"
	found=$(fetched "$name" "$version" "$sum" "$module/module.sum")
	cp -r "$found" "$copy"
	chmod -R u+w "$copy"
	cp "$module/go.sum" "$copy/go.sum"
	patch --directory="$copy" --strip=1 --fuzz=0 --forward <"$module/module.patch"
	cd "$copy"
	echo "packages: $("$1" list -mod=readonly -deps -tags minimal . | wc -l)"
	"$1" build -v -mod=readonly -trimpath -buildvcs=false -tags minimal -ldflags "-s -w" -o "$folder.part/vault" .
	cd "$folder.part"
	rm -rf "$copy"
}

compile() { # into $folder.part; all that is said goes to the log
	local go
	rm -rf "$folder.part"
	mkdir -p "$folder.part"
	go=$(toolchain)
	unset GOROOT
	export CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off GO111MODULE=on
	echo "building with $("$go" version)"
	"compile_$part" "$go"
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

no_go() { # whether nothing can be built here, and says so
	! command -v go >/dev/null && say "not building what tests need ($programs): go is missing (Debian: golang-go)"
}

build() { # the part, unless it is there
	if [ -n "$brought" ] || [ -d "$folder" ]; then return; fi
	if no_go; then return; fi
	mkdir -p "$cache"
	exec 3>&1 9>"$folder.lock"
	if ! flock --nonblock 9; then
		say "waiting for the programs of $key, which are being built ($log)"
		watched flock 9
	fi
	[ ! -d "$folder" ] || return 0
	say "building $programs $version: minutes, once ($log)"
	if ! watched "$self" compile "$part" >"$log" 2>&1; then
		tail -n 30 "$log" >&2
		printf 'The build failed. The whole log: %s\n' "$log" >&2
		return 1
	fi
	say "$(tail -n 1 "$log")"
}

start() { # all that is not there, one after the other
	local logs=()
	for name in "${parts[@]}"; do
		part "$name"
		[ -n "$brought" ] || [ -d "$folder" ] || logs+=("$log")
	done
	[ ${#logs[@]} -gt 0 ] || return 0
	if no_go; then return; fi
	say "building the programs that tests need in the background (${logs[*]})"
	setsid --fork nice -n 10 "$self" build </dev/null >/dev/null 2>&1
}

case ${1:-} in
build)
	shift
	[ $# -gt 0 ] || set -- "${parts[@]}"
	for name; do
		part "$name"
		build
	done
	;;
compile) # a process of its own, because bash forgets about `set -e` in a condition
	part "$2"
	compile
	;;
start) start ;;
where)
	part "${2:-}"
	if [ -n "$brought" ]; then echo "$brought"; else [ -d "$folder" ] && echo "$folder"; fi
	;;
*)
	echo "usage: $0 build [PART...] | start | where PART" >&2
	exit 2
	;;
esac
