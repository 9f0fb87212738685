// SPDX-License-Identifier: Apache-2.0
/* Reads a value that proves itself, until SIGTERM: word i of value n is (n << 32 | i), and the first word of all
 * is (n << 32 | number of words). So a mixture of two values, a piece that is missing and one too many all show.
 * torn PATH   ->   one line: reads torn errors empty values */
#include "files.h"
#include <signal.h>
#include <stdio.h>

static volatile sig_atomic_t stop;
static uint64_t words[LONGEST / 8 + 1];

static void on_term(int number)
{
	(void)number;
	stop = 1;
}

static int is_whole(long length)
{
	uint64_t value = words[0] >> 32;
	long count = length / 8;

	if (length % 8 || (uint32_t)words[0] != (uint64_t)count)
		return 0;
	for (long i = 1; i < count; i++)
		if (words[i] != (value << 32 | (uint64_t)i))
			return 0;
	return 1;
}

int main(int argc, char **argv)
{
	uint64_t reads = 0, torn = 0, errors = 0, empty = 0, values = 0, seen = 0;

	if (argc != 2)
		return 2;
	signal(SIGTERM, on_term);
	puts("ready");
	fflush(stdout);
	while (!stop) {
		long length = read_whole(argv[1], (char *)words, sizeof(words));

		reads++;
		if (length < 0)
			errors++;
		else if (!length)
			empty++;
		else if (!is_whole(length))
			torn++;
		else if (words[0] >> 32 != seen) {
			seen = words[0] >> 32;
			values++;
		}
	}
	printf("%lu %lu %lu %lu %lu\n", reads, torn, errors, empty, values);
	return 0;
}
