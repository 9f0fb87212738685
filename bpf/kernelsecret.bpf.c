// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Serves secret files: each file is a pin of its volume's iterator link, and each read of it runs `serve` over the
 * steps of the volume. Everything else here decides who is reading. */
#include "vmlinux.h"
#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#define KS_SIGKILL 9
#define KS_SIGSTOP 19

#include "layout.h"
#include "settings.h"
#include "maps.h"
#include "cgroup.h"
#include "events.h"
#include "lineage.h"
#include "access.h"
#include "reads.h"

char LICENSE[] SEC("license") = "GPL";

const volatile char overflow[KS_BUFFER_BYTES] = {};

/* Keeps what no map names in the object's BTF, for the layout check. */
struct ks_described {
	struct ks_step step;
	struct ks_event event;
	enum ks_limit limit;
	enum ks_from from;
	enum ks_action action;
	enum ks_reason reason;
	enum ks_event_type type;
	enum ks_task_flag task;
	enum ks_pod_flag pod;
} *described __attribute__((unused));

struct reader {
	struct seq_file *seq;
	struct task_struct *task;
	struct ks_grant *grant;
	struct ks_file *file;
	__u64 session;
	__u64 inode;
	__u32 grant_slot;
	__u32 generation;
};

static __always_inline void report(struct reader *r, __u32 type, __u32 reason, __u32 action)
{
	struct ks_event event = {.type = type, .reason = reason, .action = action};

	describe_task(&event, r->task);
	event.grant_id = r->grant->id;
	event.pod_id = r->grant->pod_id;
	event.file_inode = r->inode;
	event.generation = r->generation;
	event.suppressed = __sync_lock_test_and_set(&r->grant->events_suppressed, 0);
	if (r->file) {
		event.set_id = r->file->set_id;
		event.item = r->file->item;
	}
	send(&event);
}

/* Emitting more than the buffer holds makes read() fail with E2BIG and hand out nothing of this step. */
static __always_inline int fail(struct seq_file *seq)
{
	bpf_seq_write(seq, (const void *)overflow, sizeof(overflow));
	return 0;
}

static __always_inline int refuse(struct reader *r, __u32 reason, __u32 action)
{
	if (reason < KS_REASONS)
		__sync_fetch_and_add(&r->grant->refused[reason], 1);
	if (may_report(r->grant))
		report(r, KS_EVENT_REFUSED, reason, action);
	if (action == KS_ACTION_KILL)
		bpf_send_signal(KS_SIGKILL);
	return fail(r->seq);
}

/* Could this task be the one that holds too many files? One with room for few cannot, and is not killed for another's. */
static __always_inline bool may_hold(struct ks_grant *grant, struct task_struct *task)
{
	return task->files->fdt->max_fds > grant->open_limit;
}

/* 0: serve. Otherwise the read has been refused. */
static __always_inline bool is_refused(struct reader *r, struct bpf_map *map)
{
	struct ks_grant *grant = r->grant;
	__s64 open = map->usercnt.counter - KS_OWN_REFERENCES;
	__u32 reason;

	if (r->seq->file->f_inode->i_sb->s_dev != grant->device) {
		refuse(r, KS_REASON_MOUNT, KS_ACTION_DENY);
		return true;
	}
	if (!is_in_pod(grant, r->task)) {
		refuse(r, KS_REASON_POD, KS_ACTION_DENY);
		return true;
	}
	reason = judge(grant, r->task);
	if (open > grant->open_limit) {
		/* The buffer of this read is already allocated: only its holder's end frees it. */
		bool is_far_over = open > (__s64)grant->open_limit * KS_KILL_FACTOR;

		refuse(r, KS_REASON_OPEN_FILES,
		       is_far_over && (reason || may_hold(grant, r->task)) ? KS_ACTION_KILL : KS_ACTION_DENY);
		return true;
	}
	if (!reason)
		return false;
	if (grant->action != KS_ACTION_AUDIT) {
		refuse(r, reason, grant->action);
		return true;
	}
	__sync_fetch_and_add(&grant->audited, 1);
	if (may_report(grant))
		report(r, KS_EVENT_AUDITED, reason, KS_ACTION_AUDIT);
	return false;
}

static __always_inline struct ks_version *version_of(struct reader *r, struct ks_set *set)
{
	struct ks_version_key key = {
		.set_id = r->file->set_id,
		.generation = r->generation,
		.item = r->file->item,
	};

	if (set->id != r->file->set_id || r->generation < *(volatile __u32 *)&set->oldest)
		return 0; /* it may be half gone: the agent wipes what is below `oldest` */
	return bpf_map_lookup_elem(&versions, &key);
}

/* A flip comes before the sizes of the files that show it are set. Where the size that this file shows is that of an
 * earlier generation, the volume has not been told yet: serve what the size promises. */
static __always_inline __u32 generation_of_size(struct reader *r, struct ks_set *set)
{
	long long size = r->seq->file->f_inode->i_size;
	__u32 chosen = r->generation;
	struct ks_version *version;

	for (__u32 back = 0; back < KS_SIZE_LOOKBACK; back++) {
		version = version_of(r, set);
		if (!version)
			break;
		if (version->bytes == size)
			return r->generation;
		r->generation--;
	}
	return chosen;
}

static __always_inline void choose_generation(struct reader *r, struct ks_set *set)
{
	__u64 bit = 1ULL << (r->file->item & (KS_SET_ITEMS - 1));
	struct ks_round *round = round_of(r->task, set);

	if (round && is_in_round(round, set, bit)) {
		r->generation = round->generation;
		round->read_items |= bit;
		return;
	}
	r->generation = *(volatile __u32 *)&set->current;
	r->generation = generation_of_size(r, set);
	if (round) {
		begin_round(round, set, r->generation);
		round->read_items = bit;
	}
}

/* 0: all of the step is in the buffer, or the buffer is full and the kernel will ask for the step again. */
static __always_inline int emit_step(struct reader *r, struct ks_version *version, __u32 step)
{
	__u32 lead = step < KS_LEAD_STEPS;
	__u32 first = lead ? step : KS_LEAD_STEPS + (step - KS_LEAD_STEPS) * KS_STEP_CHUNKS;
	__u32 end = first + (lead ? 1 : KS_STEP_CHUNKS);
	__u32 chunks_in_value = (version->bytes + KS_CHUNK_BYTES - 1) / KS_CHUNK_BYTES;
	struct ks_chunk_key key = {.value_id = version->value_id};

	if (end > chunks_in_value)
		end = chunks_in_value;
	for (__u32 i = 0; i < KS_STEP_CHUNKS; i++) {
		struct ks_chunk *chunk;
		__u32 bytes;

		key.index = first + i;
		if (key.index >= end)
			break;
		chunk = bpf_map_lookup_elem(&chunks, &key);
		if (!chunk)
			return -1;
		bytes = chunk->bytes;
		if (bytes > KS_CHUNK_BYTES)
			return -1;
		if (bpf_seq_write(r->seq, chunk->data, bytes))
			return 0;
	}
	return end == chunks_in_value;
}

static __always_inline void mark_finished(__u64 session)
{
	__u32 zero = 0;
	__u64 *last = bpf_map_lookup_elem(&finished, &zero);

	if (last)
		*last = session;
}

static __always_inline bool is_finished(__u64 session)
{
	__u32 zero = 0;
	__u64 *last = bpf_map_lookup_elem(&finished, &zero);

	return last && *last == session;
}

static __always_inline void count_read(struct reader *r, struct ks_version *version)
{
	__sync_fetch_and_add(&r->grant->served, 1);
	__sync_fetch_and_add(&r->grant->served_bytes, version->bytes);
	if (r->file->seen < r->generation) {
		r->file->seen = r->generation;
		report(r, KS_EVENT_SERVED, KS_REASON_NONE, 0);
	}
}

/* All of the value is in the buffer of this read, and nothing but its reader's end keeps it from him: he has this version.
 * The last one to end a read counts, so one who ends an old version late is not taken for one who has the new. */
static __always_inline void note_whole_read(struct reader *r)
{
	if (r->file->read != r->generation) /* else a line that other CPUs read would be written for nothing */
		r->file->read = r->generation;
}

SEC("iter/bpf_map_elem")
int serve(struct bpf_iter__bpf_map_elem *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct ks_step *step = ctx->value;
	struct ks_file_key file_key;
	struct ks_counters *count;
	struct ks_version *version;
	struct reader r = {};
	struct ks_set *set;
	__u32 number;
	int done;

	if (!step)
		return 0;
	number = ctx->meta->seq_num;
	r.seq = seq;
	r.session = ctx->meta->session_id;
	if (number >= KS_STEPS || (number && is_finished(r.session)))
		return 0;
	r.grant_slot = step->grant_slot;
	r.grant = bpf_map_lookup_elem(&grants, &r.grant_slot);
	if (!r.grant || !step->grant_id || r.grant->id != step->grant_id) {
		count = node_counters();
		if (count && !number)
			__sync_fetch_and_add(&count->unknown_reads, 1);
		return fail(seq);
	}
	r.task = bpf_get_current_task_btf();
	r.inode = seq->file->f_inode->i_ino;
	if (*(volatile __u32 *)&r.grant->closed)
		return refuse(&r, KS_REASON_ENDED, KS_ACTION_DENY);
	file_key.files_id = *(volatile __u64 *)&r.grant->files_id;
	file_key.inode = r.inode;
	r.file = bpf_map_lookup_elem(&files, &file_key);
	if (!r.file)
		return refuse(&r, KS_REASON_MOUNT, KS_ACTION_DENY);
	set = bpf_map_lookup_elem(&sets, &r.file->set_slot);
	if (!set)
		return refuse(&r, KS_REASON_VALUE, KS_ACTION_DENY);
	if (number) {
		bool is_long = set->long_items & 1ULL << (r.file->item & (KS_SET_ITEMS - 1));
		__u64 emitted = (__u64)seq->file->f_pos + seq->count;

		if (!is_long)
			return 0;
		r.generation = session_generation(r.grant_slot, r.session);
		/* Without a session the value was a single chunk, and what was emitted is not a whole number of them. */
		if (!r.generation && emitted % KS_CHUNK_BYTES)
			return 0;
		if (!r.generation)
			return refuse(&r, KS_REASON_LOST, KS_ACTION_DENY);
		if (r.generation == KS_FINISHED)
			return 0;
	}
	if (is_refused(&r, ctx->map))
		return 0;
	if (!number)
		choose_generation(&r, set);
	version = version_of(&r, set);
	if (!version)
		return refuse(&r, number ? KS_REASON_LOST : KS_REASON_VALUE, KS_ACTION_DENY);
	if (!number && needs_session(version->bytes))
		remember_session(r.grant_slot, r.session, r.generation);
	done = emit_step(&r, version, number);
	if (done < 0)
		return refuse(&r, KS_REASON_VALUE, KS_ACTION_DENY);
	if (!number)
		count_read(&r, version);
	if (done) {
		note_whole_read(&r);
		mark_finished(r.session);
		if (needs_session(version->bytes))
			finish_session(r.grant_slot, r.session);
	}
	return 0;
}
