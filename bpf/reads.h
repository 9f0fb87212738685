/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What a read in progress must remember: which generation it began with (a session, for values longer than one
 * chunk), and which generation the task is in the middle of (a round, so that two files are of one version). */
#ifndef KERNELSECRET_READS_H
#define KERNELSECRET_READS_H

static __always_inline bool needs_session(__u32 bytes)
{
	return bytes > KS_CHUNK_BYTES || bytes % KS_CHUNK_BYTES == 0;
}

static __always_inline __u32 session_generation(__u32 grant_slot, __u64 session)
{
	struct ks_sessions *table = bpf_map_lookup_elem(&sessions, &grant_slot);

	if (!table)
		return 0;
	for (__u32 probe = 0; probe < KS_SESSION_PROBES; probe++) {
		__u64 tag = table->tag[(session + probe) & (KS_SESSIONS - 1)];

		if (tag && (__u32)(tag >> 32) == (__u32)session)
			return (__u32)tag;
	}
	return 0;
}

/* A tag is one word, so it is never seen half-written. A finished read gives way first, then the oldest of those probed. */
static __always_inline void remember_session(__u32 grant_slot, __u64 session, __u32 generation)
{
	struct ks_sessions *table = bpf_map_lookup_elem(&sessions, &grant_slot);
	__u64 tag = session << 32 | generation;
	__u32 oldest = 0, oldest_age = 0;

	if (!table)
		return;
	for (__u32 probe = 0; probe < KS_SESSION_PROBES; probe++) {
		__u32 place = (session + probe) & (KS_SESSIONS - 1);
		__u64 other = table->tag[place];
		__u32 age = (__u32)session - (__u32)(other >> 32);

		if ((!other || (__u32)other == KS_FINISHED) &&
		    __sync_val_compare_and_swap(&table->tag[place], other, tag) == other)
			return;
		if (age >= oldest_age) {
			oldest_age = age;
			oldest = place;
		}
	}
	table->tag[oldest & (KS_SESSIONS - 1)] = tag;
}

static __always_inline void finish_session(__u32 grant_slot, __u64 session)
{
	struct ks_sessions *table = bpf_map_lookup_elem(&sessions, &grant_slot);

	if (!table)
		return;
	for (__u32 probe = 0; probe < KS_SESSION_PROBES; probe++) {
		__u64 *place = &table->tag[(session + probe) & (KS_SESSIONS - 1)];
		__u64 tag = *place;

		if (tag && (__u32)(tag >> 32) == (__u32)session) {
			__sync_val_compare_and_swap(place, tag, session << 32 | KS_FINISHED);
			return;
		}
	}
}

/* The round in which this task reads the set: the one it is in, or the one that gives way to a new one. */
static __always_inline struct ks_round *round_of(struct task_struct *task, struct ks_set *set)
{
	struct ks_task *state = bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!state)
		return 0;
	for (__u32 i = 0; i < KS_ROUNDS; i++)
		if (state->rounds[i].set_id == set->id)
			return &state->rounds[i];
	return &state->rounds[state->next_round++ & (KS_ROUNDS - 1)];
}

/* A task that read another item of this set a moment ago stays with the generation it saw. Reading the same item again
 * begins a new round, so that a loop over one file is never stale. */
static __always_inline bool is_in_round(struct ks_round *round, struct ks_set *set, __u64 bit)
{
	return round->set_id == set->id && !(round->read_items & bit) &&
	       bpf_ktime_get_ns() - round->began_ns < round_grace_ns &&
	       round->generation >= *(volatile __u32 *)&set->oldest;
}

static __always_inline void begin_round(struct ks_round *round, struct ks_set *set, __u32 generation)
{
	round->set_id = set->id;
	round->generation = generation;
	round->began_ns = bpf_ktime_get_ns();
	round->read_items = 0;
}

#endif
