// SPDX-License-Identifier: Apache-2.0
/* What the preloaded shim adds to a call: the function as the program calls it, which is the shim's, and the libc's own,
 * in turn, in one process.
 * shim ROUNDS CALLS LIVE OTHER   ->   lines: WORK ROUND ns_through_the_shim ns_by_the_libc
 * LIVE is a file of a live volume, OTHER one that is not ours. Opens are timed with their close. */
#include "files.h"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

typedef int open_call(const char *, int, ...);
typedef int stat_call(const char *, struct stat *);
typedef off_t lseek_call(int, off_t, int);
typedef ssize_t pread_call(int, void *, size_t, off_t);

static int held, fd;
static char byte;
static struct stat state;
static const char *live, *other;

static void open_live(void *function)
{
	close(((open_call *)function)(live, O_RDONLY | O_CLOEXEC));
}

static void open_other(void *function)
{
	close(((open_call *)function)(other, O_RDONLY | O_CLOEXEC));
}

static void stat_other(void *function)
{
	((stat_call *)function)(other, &state);
}

static void lseek_other(void *function)
{
	((lseek_call *)function)(fd, 0, SEEK_SET);
}

static void pread_other(void *function)
{
	((pread_call *)function)(fd, &byte, 1, 0);
}

static void rewind_live(void *function)
{
	((lseek_call *)function)(held, 0, SEEK_SET);
}

static const struct {
	const char *name, *function;
	void (*call)(void *);
} works[] = {
	{ "open_live", "open", open_live },	{ "open_other", "open", open_other },
	{ "stat_other", "stat", stat_other },	{ "lseek_other", "lseek", lseek_other },
	{ "pread_other", "pread", pread_other }, { "rewind_live", "lseek", rewind_live },
};

static double round_of(void (*call)(void *), void *function, int calls)
{
	uint64_t began = now_ns();

	for (int i = 0; i < calls; i++)
		call(function);
	return (double)(now_ns() - began) / calls;
}

int main(int argc, char **argv)
{
	void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);

	if (argc != 5 || !libc)
		return 2;
	live = argv[3];
	other = argv[4];
	held = open(live, O_RDONLY);
	fd = open(other, O_RDONLY);
	if (held < 0 || fd < 0) {
		perror("open");
		return 1;
	}
	for (int round = 0; round < atoi(argv[1]); round++)
		for (unsigned i = 0; i < sizeof(works) / sizeof(works[0]); i++) {
			void *functions[] = { dlsym(RTLD_DEFAULT, works[i].function), dlsym(libc, works[i].function) };
			double ns[2];

			if (functions[0] == functions[1]) {
				fprintf(stderr, "%s is the libc's: the shim is not there\n", works[i].function);
				return 1;
			}
			for (int turn = 0; turn < 2; turn++) {
				int which = (turn + round) % 2;

				ns[which] = round_of(works[i].call, functions[which], atoi(argv[2]));
			}
			printf("%s %d %.2f %.2f\n", works[i].name, round, ns[0], ns[1]);
		}
	return 0;
}
