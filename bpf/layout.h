/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the programs and the agent both read: map values, events, and the numbers in them.
 * agent/kernel/layout.py mirrors this file; the layout check compares the two through BTF. */
#ifndef KERNELSECRET_LAYOUT_H
#define KERNELSECRET_LAYOUT_H

#include <linux/types.h>

/* Raised with every change of a struct or of a meaning below: programs of one layout never serve maps of another. */
#define KS_LAYOUT_VERSION 3

enum ks_limit {
	KS_CHUNK_BYTES = 1528,	     /* payload of a chunk: with its header three quarters of 2 KiB */
	KS_LEAD_STEPS = 4,	     /* the first steps emit one chunk each, so that little waits in a half-read buffer */
	KS_STEP_CHUNKS = 20,	     /* every later step emits this many: 30,560 B of the 32,768 B buffer */
	KS_STEPS = 39,		     /* enough for KS_VALUE_BYTES; a volume has as many as its longest value needs */
	KS_VALUE_BYTES = 1048576,
	KS_BUFFER_BYTES = 32768,     /* size of an iterator's buffer: emitting as much in one go is refused by the kernel */
	KS_GRANTS = 4096,
	KS_SETS = 8192,
	KS_SET_ITEMS = 64,
	KS_SESSIONS = 64,	     /* unfinished reads of long values that one grant remembers */
	KS_SESSION_PROBES = 8,
	KS_ROUNDS = 4,		     /* secrets that one task can read side by side, each of one generation */
	KS_CGROUP_DEPTH = 8,	     /* levels below the pod's cgroup at which a task is still found */
	KS_COMM_BYTES = 16,
	KS_DIGEST_BYTES = 16,
	KS_OWN_REFERENCES = 2,	     /* to a volume's steps: its link's and the agent's pin; every open file adds one */
	KS_SIZE_LOOKBACK = 4,	     /* generations that are tried for the size that the file shows */
	KS_KILL_FACTOR = 4,	     /* a reader beyond this multiple of the limit of open files is killed */
};

#define KS_FINISHED 0xffffffffU /* in place of a generation: the value was emitted whole */
#define KS_UNKNOWN_MAIN 0xffffffffU /* in place of a tgid: the container ran before its pod was followed */

enum ks_from {
	KS_FROM_APP = 1,
	KS_FROM_MAIN = 2,
	KS_FROM_ANY = 3,
	KS_FROM_BINARIES = 4,
};

enum ks_action {
	KS_ACTION_DENY = 1,
	KS_ACTION_KILL = 2,
	KS_ACTION_AUDIT = 3,
};

/* Why a reader got nothing; the index into ks_grant.refused. */
enum ks_reason {
	KS_REASON_NONE = 0,
	KS_REASON_POD = 1,	  /* not a task of the pod */
	KS_REASON_ENTERED = 2,	  /* in the pod, but no descendant of a container's first task */
	KS_REASON_NOT_MAIN = 3,	  /* a descendant that executed another program, under `main` */
	KS_REASON_BINARY = 4,	  /* its executable is not named */
	KS_REASON_OPEN_FILES = 5, /* too many files of the volume are open */
	KS_REASON_MOUNT = 6,	  /* read through something that is not the volume's own mount */
	KS_REASON_LOST = 7,	  /* a long read that was paused for too long, or too many of them */
	KS_REASON_VALUE = 8,	  /* the version is not there (any more) */
	KS_REASON_ENDED = 9,	  /* the pod's right to the volume has ended */
	KS_REASONS = 10,
};

enum ks_event_type {
	KS_EVENT_SERVED = 1,	/* first read of a generation through this file */
	KS_EVENT_REFUSED = 2,
	KS_EVENT_AUDITED = 3,	/* served although the rule says no, because the action is audit */
	KS_EVENT_STARTED = 4,	/* a container of the pod executed its first program */
};

enum ks_task_flag {
	KS_TASK_MAIN = 1, /* has executed nothing since it was forked from the container's first program */
	KS_TASK_ROOT = 2, /* is a thread of the container's first program: its own execs change nothing */
};

enum ks_pod_flag {
	KS_POD_HOLD = 1, /* stop each container at its first exec until the agent has found the named binaries */
};

/* One element of the map that a volume's link walks: it only says whose volume this is. Which step of the read it is
 * tells the iterator's own sequence number, so elements can be added at any time, and their order means nothing. */
struct ks_step {
	__u64 grant_id; /* 0: the volume has ended */
	__u32 grant_slot;
	__u32 reserved;
};

struct ks_grant {
	__u64 id; /* never used again; 0: free or ended */
	__u64 pod_id;
	__u64 cgroup_id; /* of the pod; 0: the namespaces below are the identity */
	__u32 mount_ns;
	__u32 pid_ns;
	__u32 device; /* s_dev of the volume's bpffs */
	__u32 from;
	__u32 action;
	__u32 open_limit;
	__u64 event_window_ns;
	__u32 event_count;
	__u32 closed;	/* not 0: the pod's right has ended, nobody reads until it returns */
	__u64 files_id; /* under which its files are in `files`; one store moves all of them to other sets */
	__u64 events_suppressed;
	__u64 served;
	__u64 served_bytes;
	__u64 audited;
	__u64 refused[KS_REASONS];
};

struct ks_sessions {
	__u64 tag[KS_SESSIONS]; /* low half of the session id << 32 | generation, or KS_FINISHED; 0: free */
};

/* A secret: all its items change their value together, when `current` changes. */
struct ks_set {
	__u64 id; /* never used again; 0: free */
	__u32 current;
	__u32 oldest; /* generations below this one are being wiped */
	__u64 long_items; /* bit n: some generation of item n has needed a session; never taken back */
	__u64 flips;
	__u64 flipped_ns; /* CLOCK_REALTIME of the last flip, for the agent alone: files older than it were not told */
	__u64 reserved[3];
};

struct ks_file_key {
	__u64 files_id; /* of the grant */
	__u64 inode;
};

struct ks_file {
	__u64 set_id;
	__u32 set_slot;
	__u32 item;
	__u32 seen; /* newest generation that a read through this file began with */
	__u32 read; /* generation of the read that ended last, with all of the value; 0: none has */
};

struct ks_version_key {
	__u64 set_id;
	__u32 generation;
	__u32 item;
};

struct ks_version {
	__u64 value_id;
	__u32 bytes;
	__u32 since; /* the generation that brought this value, for the agent alone: later ones may have it unchanged */
	__u8 digest[KS_DIGEST_BYTES]; /* HMAC under the node's key, for the agent alone */
};

struct ks_chunk_key {
	__u64 value_id;
	__u32 index;
	__u32 reserved;
};

struct ks_binary_key {
	__u64 grant_id;
	__u64 inode;
	__u32 device;
	__u32 reserved;
};

struct ks_pod {
	__u64 id; /* never used again */
	__u32 flags;
	__u32 reserved;
};

struct ks_container {
	__u64 pod_id;
	__u32 main_tgid; /* 0: has not executed its first program yet */
	__u32 flags;	 /* its pod's ks_pod_flag when it began */
};

struct ks_round {
	__u64 set_id;
	__u64 read_items; /* items that this task has read of this generation */
	__u64 began_ns;
	__u32 generation;
	__u32 reserved;
};

struct ks_task {
	__u64 pod_id; /* 0: not a descendant of any container's first task */
	__u64 container_id;
	__u32 flags;
	__u32 next_round;
	struct ks_round rounds[KS_ROUNDS];
};

struct ks_event {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 grant_id;
	__u64 pod_id;
	__u64 container_id;
	__u64 set_id;
	__u64 file_inode;
	__u64 exe_inode;
	__u32 exe_device;
	__u32 type;
	__u32 reason;
	__u32 action;
	__u32 generation;
	__u32 item;
	__u32 tid;
	__u32 tgid;
	__u32 uid;
	__u32 suppressed; /* events of this grant that were not reported since the last one */
	char comm[KS_COMM_BYTES];
};

struct ks_counters {
	__u64 events_lost;   /* the ring buffer was full */
	__u64 lineage_lost;  /* a task could not be marked (no memory): it will be refused */
	__u64 unknown_reads; /* reads through a volume that has ended */
	__u64 reserved;
};

/* What a restarted agent must know of maps that it did not make. */
struct ks_about {
	__u32 layout_version;
	__u32 reserved;
	__u64 next_id;
	__u8 node_key[32];
};

#endif
