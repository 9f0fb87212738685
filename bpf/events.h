/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the agent hears. Refusals are limited for each grant, so that one pod cannot drown another's. */
#ifndef KERNELSECRET_EVENTS_H
#define KERNELSECRET_EVENTS_H

#define KS_SECOND_NS 1000000000ULL

static __always_inline struct ks_counters *node_counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

static __always_inline void describe_task(struct ks_event *event, struct task_struct *task)
{
	struct file *exe = task->mm->exe_file;

	event->time_ns = bpf_ktime_get_ns();
	event->tid = task->pid;
	event->tgid = task->tgid;
	event->uid = (__u32)bpf_get_current_uid_gid();
	event->exe_inode = exe->f_inode->i_ino;
	event->exe_device = exe->f_inode->i_sb->s_dev;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
}

static __always_inline void send(struct ks_event *event)
{
	struct ks_counters *count;

	if (!bpf_ringbuf_output(&events, event, sizeof(*event), 0))
		return;
	count = node_counters();
	if (count)
		__sync_fetch_and_add(&count->events_lost, 1);
}

/* May this grant report one more refusal in this second? */
static __always_inline bool may_report(struct ks_grant *grant)
{
	__u64 now = bpf_ktime_get_ns();

	if (now - grant->event_window_ns > KS_SECOND_NS) {
		grant->event_window_ns = now;
		grant->event_count = 0;
	}
	if (__sync_fetch_and_add(&grant->event_count, 1) < events_per_second)
		return true;
	__sync_fetch_and_add(&grant->events_suppressed, 1);
	return false;
}

static __always_inline void report_start(struct task_struct *task, struct ks_task *mark)
{
	struct ks_event event = {.type = KS_EVENT_STARTED};

	describe_task(&event, task);
	event.pod_id = mark->pod_id;
	event.container_id = mark->container_id;
	send(&event);
}

#endif
