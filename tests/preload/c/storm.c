// SPDX-License-Identifier: Apache-2.0
/* Readers and a rotator at full speed. Every value is `NUMBER:NUMBER:...` to a length of its own, so a reader knows that
 * it has one whole value and which. A reader that goes back must not see one older than what was there before it did.
 * storm KIND FOLDER MILLISECONDS   ->   reads, rotations; what is wrong is said and ends it with status 1. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 1 << 14, THREADS = 6, FILES = 4 };

static char files[FILES][300];
static uint64_t written[FILES]; /* the number that is at the name for certain */
static int over, shared;
static uint64_t reads, rotations, from_handler;

static uint64_t load(const uint64_t *from)
{
	return __atomic_load_n(from, __ATOMIC_SEQ_CST);
}

static void wrong(const char *what, uint64_t a, uint64_t b)
{
	char text[200];
	int length = snprintf(text, sizeof(text), "wrong: %s (%lu, %lu)\n", what, (unsigned long)a, (unsigned long)b);

	if (write(2, text, (size_t)length) < 0)
		_exit(2);
	_exit(1);
}

/* The number of a whole value. Signal handlers call it. */
static uint64_t number_of(const char *text, long bytes, const char *who)
{
	uint64_t number = 0;

	if (bytes <= 0)
		wrong(who, (uint64_t)bytes, (uint64_t)errno);
	for (int i = 0; i < 10; i++)
		number = number * 10 + (uint64_t)(text[i] - '0');
	if (bytes != (long)(11 * (1 + number % 700)))
		wrong(who, number, (uint64_t)bytes);
	for (long i = 11; i < bytes; i++)
		if (text[i] != text[i - 11])
			wrong(who, number, (uint64_t)i);
	return number;
}

static void put(int file, uint64_t number)
{
	static char text[ROOM];
	char new[320], *end = text;
	int fd;

	snprintf(new, sizeof(new), "%s.new", files[file]);
	for (uint64_t i = 0; i <= number % 700; i++)
		end += sprintf(end, "%010lu:", (unsigned long)number);
	fd = open(new, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, text, (size_t)(end - text)) != end - text || close(fd) || rename(new, files[file]))
		wrong("rotation", number, (uint64_t)errno);
	__atomic_store_n(&written[file], number, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&rotations, 1, __ATOMIC_RELAXED);
}

static void *rotate(void *none)
{
	for (uint64_t number = 2; !__atomic_load_n(&over, __ATOMIC_RELAXED); number++)
		for (int file = 0; file < FILES; file++)
			put(file, number);
	return none;
}

static void seen(uint64_t number, uint64_t least, const char *who)
{
	if (number < least)
		wrong(who, number, least);
	__atomic_fetch_add(&reads, 1, __ATOMIC_RELAXED);
}

/* A descriptor of one's own that is never closed. */
static void *rewinding(void *argument)
{
	int file = (int)(intptr_t)argument % FILES, fd = open(files[file], O_RDONLY);
	char text[ROOM];

	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		uint64_t least = load(&written[file]);

		if (lseek(fd, 0, SEEK_SET))
			wrong("lseek", (uint64_t)fd, (uint64_t)errno);
		seen(number_of(text, read(fd, text, ROOM), "read"), least, "an old value after lseek");
		least = load(&written[file]);
		seen(number_of(text, pread(fd, text, ROOM, 0), "pread"), least, "an old value by pread");
	}
	return NULL;
}

/* One descriptor for all, by pread alone: no position to share. */
static void *sharing(void *none)
{
	char text[ROOM];

	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		uint64_t least = load(&written[0]);

		seen(number_of(text, pread(shared, text, ROOM, 0), "shared pread"), least, "an old value by a shared pread");
	}
	return none;
}

static void *streaming(void *argument)
{
	int file = (int)(intptr_t)argument % FILES;
	FILE *stream = fopen(files[file], "r");
	char text[ROOM];

	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		uint64_t least = load(&written[file]);

		rewind(stream);
		seen(number_of(text, (long)fread(text, 1, ROOM, stream), "fread"), least, "an old value after rewind");
	}
	fclose(stream);
	return NULL;
}

static void *reopening(void *argument)
{
	int file = (int)(intptr_t)argument % FILES;
	char text[ROOM];

	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		uint64_t least = load(&written[file]);
		int fd = open(files[file], O_RDONLY | O_CLOEXEC), copy = dup(fd);

		seen(number_of(text, read(fd, text, ROOM), "open"), least, "an old value after open");
		least = load(&written[file]);
		if (lseek(copy, 0, SEEK_SET))
			wrong("lseek of a copy", (uint64_t)copy, (uint64_t)errno);
		seen(number_of(text, read(copy, text, ROOM), "copy"), least, "an old value by a copy");
		close(fd);
		close(copy);
	}
	return NULL;
}

static int handlers_fd;

static void on_signal(int number)
{
	char text[ROOM];
	int before = errno, fd = open(files[1], O_RDONLY | O_CLOEXEC);
	struct stat state;

	errno = number;
	if (fd < 0 || lseek(fd, 0, SEEK_SET) || stat(files[1], &state) || errno != number)
		wrong("in a handler", (uint64_t)fd, (uint64_t)errno);
	number_of(text, read(fd, text, ROOM), "read in a handler");
	number_of(text, pread(handlers_fd, text, ROOM, 0), "pread in a handler");
	if (errno != number)
		wrong("errno in a handler", (uint64_t)errno, (uint64_t)number);
	close(fd);
	__atomic_fetch_add(&from_handler, 1, __ATOMIC_RELAXED);
	errno = before;
}

static void signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct itimerval often = { { 0, 400 }, { 0, 400 } };

	handlers_fd = open(files[0], O_RDONLY | O_CLOEXEC);
	/* The same descriptor and the same calls as those that it interrupts. */
	shared = handlers_fd;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
}

static void child(int fd)
{
	char text[ROOM];
	uint64_t least = load(&written[0]);

	if (lseek(fd, 0, SEEK_SET))
		wrong("lseek in a child", (uint64_t)fd, (uint64_t)errno);
	seen(number_of(text, read(fd, text, ROOM), "read in a child"), least, "an old value in a child");
	/* The kernel copies descriptors first and memory later: where threads swapped this one twice in between, the child
	 * cannot know what it is and leaves it as it is. It must be whole, and nothing may wait. */
	seen(number_of(text, pread(shared, text, ROOM, 0), "pread in a child"), 1, "none by pread in a child");
}

/* As programs start others: between vfork() and exec the child shares all memory with us. */
static pid_t launched(int fd)
{
	char *arguments[] = { "true", NULL }, *nothing[] = { NULL };
	pid_t one = vfork();

	if (!one) {
		dup2(fd, 0);
		execve("/bin/true", arguments, nothing);
		_exit(3);
	}
	return one;
}

/* Forks while others swap the same descriptors: a child must not wait for what a thread of its parent was doing. */
static void *forking(void *argument)
{
	int status;

	for (int turn = 0; !__atomic_load_n(&over, __ATOMIC_RELAXED); turn++) {
		int fd = open(files[0], O_RDONLY);
		pid_t one = turn % 3 ? fork() : launched(fd);

		if (!one) {
			alarm(20);
			child(fd);
			_exit(0);
		}
		if (one < 0 || waitpid(one, &status, 0) != one || status)
			wrong("a child", (uint64_t)one, (uint64_t)status);
		close(fd);
	}
	return argument;
}

int main(int argc, char **argv)
{
	typedef void *work(void *);
	work *works[THREADS + 1] = { rotate, rewinding, streaming, reopening, sharing, sharing, rewinding };
	pthread_t threads[THREADS + 1];
	struct timespec pause = { 0, 1000000 }, began, now;

	if (argc != 4)
		return 2;
	for (int file = 0; file < FILES; file++) {
		snprintf(files[file], sizeof(files[file]), "%s/%d", argv[2], file);
		put(file, 1);
	}
	shared = open(files[0], O_RDONLY);
	if (!strcmp(argv[1], "signals"))
		signals();
	if (!strcmp(argv[1], "forks"))
		works[2] = works[3] = forking;
	clock_gettime(CLOCK_MONOTONIC, &began);
	for (int i = 0; i <= THREADS; i++)
		pthread_create(&threads[i], NULL, works[i], (void *)(intptr_t)i);
	do {
		nanosleep(&pause, NULL);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - began.tv_sec) * 1000 + (now.tv_nsec - began.tv_nsec) / 1000000 < atol(argv[3]));
	__atomic_store_n(&over, 1, __ATOMIC_RELAXED);
	for (int i = 0; i <= THREADS; i++)
		pthread_join(threads[i], NULL);
	printf("%lu %lu %lu\n", (unsigned long)reads, (unsigned long)rotations, (unsigned long)from_handler);
	return 0;
}
