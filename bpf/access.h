/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The access rule: may this task, now, read through this grant? The reader is judged, never the opener. */
#ifndef KERNELSECRET_ACCESS_H
#define KERNELSECRET_ACCESS_H

static __always_inline bool is_in_pod(struct ks_grant *grant, struct task_struct *task)
{
	if (grant->cgroup_id)
		return is_below(cgroup_of(task), grant->cgroup_id);
	return is_in_namespaces(task, grant->mount_ns, grant->pid_ns);
}

static __always_inline bool runs_named_binary(struct ks_grant *grant, struct task_struct *task)
{
	struct inode *exe = task->mm->exe_file->f_inode;
	struct ks_binary_key key = {
		.grant_id = grant->id,
		.inode = exe->i_ino,
		.device = exe->i_sb->s_dev,
	};

	return bpf_map_lookup_elem(&binaries, &key) != 0;
}

static __always_inline __u32 judge_lineage(struct ks_grant *grant, struct ks_task *mark)
{
	if (!mark || mark->pod_id != grant->pod_id)
		return KS_REASON_ENTERED;
	if (grant->from == KS_FROM_MAIN && !(mark->flags & KS_TASK_MAIN))
		return KS_REASON_NOT_MAIN;
	return KS_REASON_NONE;
}

/* The reason why the rule refuses a task of the pod, or KS_REASON_NONE. */
static __always_inline __u32 judge(struct ks_grant *grant, struct task_struct *task)
{
	__u32 reason = KS_REASON_BINARY;

	if (grant->from == KS_FROM_ANY)
		return KS_REASON_NONE;
	if (grant->from != KS_FROM_BINARIES)
		reason = judge_lineage(grant, mark_of(task));
	if (reason && runs_named_binary(grant, task))
		reason = KS_REASON_NONE;
	return reason;
}

#endif
