// SPDX-License-Identifier: Apache-2.0
/* An ordinary program: direct calls, as a compiler makes them (also with _FORTIFY_SOURCE), threads that are cancelled,
 * small stacks of signal handlers. plain KIND PATH: what it reads, a line; then waits for a line, and reads again. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *path;
static volatile int flags = O_RDONLY; /* not known when it is compiled: the fortified forms are called */
static char text[256];
static int fd, cleaned;

static void show(long bytes)
{
	printf("%.*s\n", (int)bytes, text);
	fflush(stdout);
}

static void wait_for_line(void)
{
	char line[16];

	if (!fgets(line, sizeof(line), stdin))
		exit(1);
}

static int reading(void)
{
	struct stat state;
	size_t most = (size_t)(flags + 200);

	fd = open(path, flags);
	show(read(fd, text, most));
	wait_for_line();
	show(pread(fd, text, most, 0));
	if (lseek(fd, 0, SEEK_SET) || stat(path, &state) || access(path, R_OK))
		return 1;
	show(read(fd, text, most));
	return 0;
}

static void on_signal(int number)
{
	char small[64];
	int held = open(path, O_RDONLY);

	(void)number;
	memcpy(text, small, (size_t)pread(held, small, sizeof(small), 0));
	close(held);
}

/* The least stack that a handler may have, with what the kernel itself puts there. */
static int on_small_stack(void)
{
	static char stack[16384];
	stack_t small = { .ss_sp = stack, .ss_size = sizeof(stack) / 2 };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };

	sigaltstack(&small, NULL);
	sigaction(SIGUSR1, &action, NULL);
	raise(SIGUSR1);
	show(5);
	wait_for_line();
	raise(SIGUSR1);
	show(6);
	return 0;
}

static void clean(void *none)
{
	(void)none;
	cleaned = 1;
}

/* Blocks in open() of a pipe that nobody writes: a point where a thread may be cancelled, through the shim's frames. */
static void *blocks(void *pipe)
{
	pthread_cleanup_push(clean, NULL);
	open(pipe, O_RDONLY);
	pthread_cleanup_pop(0);
	return NULL;
}

static int cancelled(void)
{
	struct timespec pause = { 0, 50000000 };
	pthread_t thread;
	void *result;

	pthread_create(&thread, NULL, blocks, (void *)path);
	nanosleep(&pause, NULL);
	pthread_cancel(thread);
	pthread_join(thread, &result);
	return !(result == PTHREAD_CANCELED && cleaned);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	path = argv[2];
	return !strcmp(argv[1], "small") ? on_small_stack() : !strcmp(argv[1], "cancel") ? cancelled() : reading();
}
