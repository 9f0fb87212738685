/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Where a task is: its cgroup in the hierarchy that the node's pods live in, and its namespaces.
 * Direct BTF dereference only: bpf_probe_read* is refused under lockdown=confidentiality. */
#ifndef KERNELSECRET_CGROUP_H
#define KERNELSECRET_CGROUP_H

static __always_inline struct cgroup *cgroup_of(struct task_struct *task)
{
	if (cgroup_version == 2)
		return task->cgroups->dfl_cgrp;
	return task->cgroups->subsys[bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id)]->cgroup;
}

static __always_inline struct cgroup *parent_of(struct cgroup *cgroup)
{
	struct cgroup_subsys_state *css = cgroup->self.parent;

	return css ? css->cgroup : 0;
}

static __always_inline bool is_below(struct cgroup *cgroup, __u64 id)
{
	for (int level = 0; level < KS_CGROUP_DEPTH; level++) {
		if (!cgroup)
			return false;
		if (cgroup->kn->id == id)
			return true;
		cgroup = parent_of(cgroup);
	}
	return false;
}

static __always_inline bool is_in_namespaces(struct task_struct *task, __u32 mount_ns, __u32 pid_ns)
{
	return task->nsproxy->mnt_ns->ns.inum == mount_ns && task->nsproxy->pid_ns_for_children->ns.inum == pid_ns;
}

#endif
