# read.sh LIVE PREFIXED MOUNTED: as read.py, in the ways of a shell that is linked statically: the shim does not reach it.
live=$1 prefixed=$2 mounted=$3 stopped= reads=0 last=0 versions=0 faults= seen=0
trap 'stopped=yes' TERM

fault() {
	seen=$((seen + 1))
	[ "$seen" -gt 10 ] || faults="$faults${faults:+, }\"$1\""
}

first=$(busybox cat "$mounted")

echo ready
while :; do
	is_last_round=$stopped
	reads=$((reads + 1))
	value=$(busybox cat "$live") || fault "cat: status $?"
	set -- $value
	number=${1#"${1%%[!0]*}"} number=${number:-0}
	for line; do [ "$line" = "$1" ] || break; done
	if [ "$line" != "$1" ] || [ $# -ne $((500 + number % 64)) ]; then
		fault "cat: not one whole value: $# lines"
	elif [ "$number" -lt "$last" ]; then
		fault "cat: $number after $last"
	fi
	[ "$number" -le "$last" ] || { versions=$((versions + 1)) last=$number; }
	[ -n "$first" ] && [ "$(busybox cat "$mounted")" = "$first" ] || fault "cat (subPath): not what it was"
	[ ! -e "$prefixed" ] || fault "the prefix is there"
	[ -z "$is_last_round" ] || break
	busybox usleep 4000
done
echo "{\"reads\": {\"cat\": $reads, \"cat (subPath)\": $reads}, \"faults\": [$faults], \"last\": $last, \"versions\": $versions}"
