/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Set by the agent before the programs are loaded; the verifier then sees constants. */
#ifndef KERNELSECRET_SETTINGS_H
#define KERNELSECRET_SETTINGS_H

const volatile __u32 cgroup_version = 2;   /* 2: the unified hierarchy; 1: v1's memory controller */
const volatile __u32 cgroup_hierarchy = 0; /* number of that hierarchy in /proc/self/cgroup */
const volatile __u32 node_mount_ns = 0;	   /* where kubelet and the runtime live: no container's program runs there */
const volatile __u64 round_grace_ns = 500000000; /* how long a task stays with a generation that it began to read */
const volatile __u32 events_per_second = 100;	 /* refusals that one grant may report */

#endif
