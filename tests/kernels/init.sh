#!/bin/busybox sh
# First program of a guest: loads what it needs to see the machine's files, and goes on from there.
set -e
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for module in /modules/*; do $b insmod "$module"; done
share=trans=virtio,version=9p2000.L,msize=512000
$b mount -t 9p -o ro,cache=loose,$share machine /machine
$b mount -t devtmpfs dev /machine/dev
$b mount -t proc proc /machine/proc
$b mount -t sysfs sys /machine/sys
$b mount -t securityfs security /machine/sys/kernel/security
$b mount -t tmpfs -o mode=755 run /machine/run
$b mkdir -p /machine/dev/shm /machine/run/shared /machine/run/tmp
$b mount -t tmpfs shm /machine/dev/shm
$b mount -t 9p -o $share shared /machine/run/shared
$b mount -t bpf bpf /machine/sys/fs/bpf
if $b grep -q ks_cgroup=1 /proc/cmdline; then
	$b mount -t tmpfs -o mode=755 cgroup /machine/sys/fs/cgroup
	$b mkdir /machine/sys/fs/cgroup/memory /machine/sys/fs/cgroup/unified
	$b mount -t cgroup -o memory cgroup /machine/sys/fs/cgroup/memory
	$b mount -t cgroup2 cgroup /machine/sys/fs/cgroup/unified
else
	$b mount -t cgroup2 cgroup /machine/sys/fs/cgroup
fi
$b hostname guest
$b ip link set lo up
$b umount /dev /proc
{ read -r python; read -r program; } </machine/run/shared/start
exec $b switch_root /machine "$python" -I -S "$program"
