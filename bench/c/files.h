// SPDX-License-Identifier: Apache-2.0
/* What every timer does with a file, and with the clock. */
#ifndef BENCH_FILES_H
#define BENCH_FILES_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LONGEST (1 << 20)

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

/* The whole file, as an ordinary reader gets it: read until nothing comes. Its length, or a negative errno. */
static inline long read_whole(const char *path, char *into, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	while ((n = read(fd, into + length, room - length)) > 0)
		length += (size_t)n;
	if (n < 0) {
		n = -errno;
		close(fd);
		return n;
	}
	close(fd);
	return (long)length;
}

/* Values begin with their number in 20 digits, so that a reader knows which one it got. 0: it is none. */
static inline uint64_t number_of(const char *value, long length)
{
	uint64_t number = 0;

	if (length < 20)
		return 0;
	for (int i = 0; i < 20; i++) {
		if (value[i] < '0' || value[i] > '9')
			return 0;
		number = number * 10 + (uint64_t)(value[i] - '0');
	}
	return number;
}

#endif
