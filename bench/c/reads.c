// SPDX-License-Identifier: Apache-2.0
/* Times open + read + close of several files in turn, one round of each after the other.
 * reads once|whole ROUNDS READS PATH...   ->   one line a round: nanoseconds a read of each file
 * `once` makes one read(2), which is all of a small file; `whole` reads until nothing comes, as most programs do. */
#include "files.h"
#include <stdio.h>
#include <string.h>

static char buffer[1 << 16];

static double round_of(const char *path, int whole, int reads)
{
	uint64_t began = now_ns();

	for (int i = 0; i < reads; i++) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n;

		if (fd < 0 || (n = read(fd, buffer, sizeof(buffer))) <= 0) {
			perror(path);
			exit(1);
		}
		while (whole && n > 0)
			n = read(fd, buffer, sizeof(buffer));
		if (n < 0) {
			perror(path);
			exit(1);
		}
		close(fd);
	}
	return (double)(now_ns() - began) / reads;
}

int main(int argc, char **argv)
{
	int whole, rounds, reads;

	if (argc < 5)
		return 2;
	whole = !strcmp(argv[1], "whole");
	rounds = atoi(argv[2]);
	reads = atoi(argv[3]);
	for (int i = 4; i < argc; i++)
		round_of(argv[i], whole, reads);
	for (int r = 0; r < rounds; r++)
		for (int i = 4; i < argc; i++) {
			/* Every other round goes the other way round, so that no file always has the same one before it. */
			int which = r % 2 ? argc - 1 - (i - 4) : i;

			printf("%d %.1f\n", which - 4, round_of(argv[which], whole, reads));
		}
	return 0;
}
