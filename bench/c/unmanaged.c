// SPDX-License-Identifier: Apache-2.0
/* What the lineage programs cost a process that has nothing to do with us: times its work with the programs attached
 * and without, in turn, in one process.
 * unmanaged ROUNDS FILE PROGRAM PIN...   ->   lines: WORK ROUND ns_attached ns_detached,
 * and one `program - NS 0`: what the programs take at one fork.
 * FILE is read, PROGRAM (one that ends at once) is executed.
 * PIN are the pinned links of the programs; they are taken off the node, and the programs are not left attached. */
#include "files.h"
#include <bpf/bpf.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>

#define MOST_PROGRAMS 16
#define CHECKED 500

static int programs[MOST_PROGRAMS], links[MOST_PROGRAMS], count;
static const char *file;
static char buffer[1 << 16];
static char *program[] = {0, 0};

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* Take the program of a pinned link over: from here on it is attached only when we say so. */
static void take(const char *pin)
{
	struct bpf_link_info info = {0};
	__u32 size = sizeof(info);
	int link = bpf_obj_get(pin);

	if (link < 0 || bpf_obj_get_info_by_fd(link, &info, &size))
		fail(pin);
	programs[count] = bpf_prog_get_fd_by_id(info.prog_id);
	if (programs[count] < 0 || unlink(pin))
		fail(pin);
	links[count++] = -1;
	close(link);
}

static void attach(int on)
{
	for (int i = 0; i < count; i++) {
		if (on && links[i] < 0 && (links[i] = bpf_raw_tracepoint_open(0, programs[i])) < 0)
			fail("attach");
		if (!on && links[i] >= 0) {
			close(links[i]);
			links[i] = -1;
		}
	}
}

static void work_fork(void)
{
	pid_t child = fork();

	if (!child)
		_exit(0);
	if (child < 0 || waitpid(child, 0, 0) != child)
		fail("fork");
}

static void work_exec(void)
{
	pid_t child;

	if (posix_spawn(&child, program[0], 0, 0, program, 0) || waitpid(child, 0, 0) != child)
		fail("exec");
}

static void *nothing(void *argument)
{
	return argument;
}

static void work_thread(void)
{
	pthread_t thread;

	if (pthread_create(&thread, 0, nothing, 0) || pthread_join(thread, 0))
		fail("thread");
}

static void work_read(void)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, buffer, sizeof(buffer)) <= 0 || close(fd))
		fail(file);
}

static const struct work {
	const char *name;
	void (*once)(void);
	int times;
} works[] = {
	{"fork", work_fork, 60},
	{"exec", work_exec, 25},
	{"thread", work_thread, 400},
	{"read", work_read, 3000},
};

static double timed(const struct work *work, int on)
{
	uint64_t began;

	attach(on);
	for (int i = 0; i < work->times / 20; i++)
		work->once();
	began = now_ns();
	for (int i = 0; i < work->times; i++)
		work->once();
	return (double)(now_ns() - began) / work->times;
}

struct runs {
	unsigned long long count, ns;
};

static struct runs runs(void)
{
	struct runs sum = {0, 0};

	for (int i = 0; i < count; i++) {
		struct bpf_prog_info info = {0};
		__u32 size = sizeof(info);

		if (bpf_obj_get_info_by_fd(programs[i], &info, &size))
			fail("program");
		sum.count += info.run_cnt;
		sum.ns += info.run_time_ns;
	}
	return sum;
}

/* By effect: the programs run at a fork when attached, and not when detached. Says how long they run, by the kernel's
 * own clock, which costs more than they do. */
static void check(void)
{
	int statistics = bpf_enable_stats(BPF_STATS_RUN_TIME);
	struct runs before, with, without;

	if (statistics < 0)
		fail("statistics");
	before = runs();
	attach(1);
	for (int i = 0; i < CHECKED; i++)
		work_fork();
	with = runs();
	attach(0);
	for (int i = 0; i < CHECKED; i++)
		work_fork();
	without = runs();
	close(statistics);
	if (with.count - before.count < CHECKED || without.count != with.count) {
		fprintf(stderr, "attached the programs ran %llu times in %d forks, detached %llu times\n",
			with.count - before.count, CHECKED, without.count - with.count);
		exit(1);
	}
	printf("program - %.1f 0\n", (double)(with.ns - before.ns) / CHECKED);
}

int main(int argc, char **argv)
{
	cpu_set_t last;
	int rounds;

	if (argc < 5 || argc - 4 > MOST_PROGRAMS)
		return 2;
	/* One CPU, so that a child never starts on a cold one. */
	CPU_ZERO(&last);
	CPU_SET((int)sysconf(_SC_NPROCESSORS_ONLN) - 1, &last);
	sched_setaffinity(0, sizeof(last), &last);
	rounds = atoi(argv[1]);
	file = argv[2];
	program[0] = argv[3];
	for (int i = 4; i < argc; i++)
		take(argv[i]);
	check();
	for (int r = 0; r < rounds; r++)
		for (size_t w = 0; w < sizeof(works) / sizeof(works[0]); w++) {
			int first = (r ^ (int)w) & 1;
			double a = timed(&works[w], first), b = timed(&works[w], !first);

			printf("%s %d %.1f %.1f\n", works[w].name, r, first ? a : b, first ? b : a);
			fflush(stdout);
		}
	return 0;
}
