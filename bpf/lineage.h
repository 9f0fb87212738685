/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Who descends from whom. The first task that enters a container's cgroup is the container's root; every task forked
 * from it carries its mark, wherever it is re-parented later. A task that enters a cgroup that has had its first
 * task (kubectl exec, runc exec, a probe, a move by hand) gets no mark, and neither do its children. */
#ifndef KERNELSECRET_LINEAGE_H
#define KERNELSECRET_LINEAGE_H

/* The mark of a task; a thread that was there before its process was marked goes by its leader's. */
static __always_inline struct ks_task *mark_of(struct task_struct *task)
{
	struct ks_task *mark = bpf_task_storage_get(&tasks, task, 0, 0);

	if ((!mark || !mark->pod_id) && task->pid != task->tgid)
		mark = bpf_task_storage_get(&tasks, task->group_leader, 0, 0);
	return mark;
}

static __always_inline void set_mark(struct task_struct *task, __u64 pod_id, __u64 container_id, __u32 flags)
{
	struct ks_task *mark = bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	struct ks_counters *count;

	if (!mark) /* on 6.1 a concurrent user of this CPU's storage makes it fail once */
		mark = bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!mark) {
		count = node_counters();
		if (count)
			__sync_fetch_and_add(&count->lineage_lost, 1);
		return;
	}
	mark->container_id = container_id;
	mark->flags = flags;
	mark->pod_id = pod_id;
}

/* A task has come into `cgroup` other than by a plain fork. */
static __always_inline void admit(struct task_struct *task, struct cgroup *cgroup)
{
	struct ks_container container = {};
	__u64 id = 0, container_id = 0;
	struct ks_container *known;
	struct ks_pod *pod = 0;
	struct ks_task *mark;

	for (int level = 0; level < KS_CGROUP_DEPTH; level++) {
		if (!cgroup)
			return;
		container_id = id;
		id = cgroup->kn->id;
		pod = bpf_map_lookup_elem(&pods, &id);
		if (pod)
			break;
		cgroup = parent_of(cgroup);
	}
	if (!pod || !container_id)
		return;
	mark = mark_of(task);
	if (mark && mark->pod_id == pod->id)
		return;
	container.pod_id = pod->id;
	container.flags = pod->flags;
	known = bpf_map_lookup_elem(&containers, &container_id);
	if (known && known->pod_id != pod->id) /* a cgroup id that has come again */
		bpf_map_delete_elem(&containers, &container_id);
	if (!bpf_map_update_elem(&containers, &container_id, &container, BPF_NOEXIST))
		set_mark(task, pod->id, container_id, 0);
}

SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(lineage_attach, struct cgroup *cgroup, const char *path, struct task_struct *task)
{
	if (cgroup->root->hierarchy_id == cgroup_hierarchy)
		admit(task, cgroup);
	return 0;
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(lineage_rmdir, struct cgroup *cgroup)
{
	__u64 id;

	if (cgroup->root->hierarchy_id != cgroup_hierarchy)
		return 0;
	id = cgroup->kn->id;
	bpf_map_delete_elem(&containers, &id);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(lineage_fork, struct task_struct *parent, struct task_struct *child)
{
	struct ks_task *mark = mark_of(parent);

	if (mark && mark->pod_id) {
		__u32 flags = mark->flags;

		if (parent->tgid != child->tgid)
			flags &= ~KS_TASK_ROOT;
		set_mark(child, mark->pod_id, mark->container_id, flags);
	} else if ((__u64)parent->cgroups != (__u64)child->cgroups) { /* clone3(CLONE_INTO_CGROUP) */
		admit(child, cgroup_of(child));
	}
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(lineage_exec, struct task_struct *task)
{
	struct ks_task *mark = bpf_task_storage_get(&tasks, task, 0, 0);
	struct ks_container *container;
	__u64 id;

	if (!mark || !mark->pod_id || mark->flags & KS_TASK_ROOT)
		return 0;
	id = mark->container_id;
	container = bpf_map_lookup_elem(&containers, &id);
	/* The runtime's own stages fork but execute nothing inside the container; the first that does is its program. */
	if (!container || container->pod_id != mark->pod_id || task->nsproxy->mnt_ns->ns.inum == node_mount_ns ||
	    __sync_val_compare_and_swap(&container->main_tgid, 0, task->tgid)) {
		mark->flags &= ~KS_TASK_MAIN;
		return 0;
	}
	mark->flags |= KS_TASK_ROOT | KS_TASK_MAIN;
	report_start(task, mark);
	if (container->flags & KS_POD_HOLD)
		bpf_send_signal(KS_SIGSTOP);
	return 0;
}

#endif
