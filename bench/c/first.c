// SPDX-License-Identifier: Apache-2.0
/* A program that reads its secret over and over. Tells when it first saw each value.
 * first PATH   ->   records {value's number, CLOCK_MONOTONIC ns} on standard output; ends at the first failed read */
#include "files.h"
#include <stdio.h>
#include <string.h>

static char buffer[LONGEST + 1];

int main(int argc, char **argv)
{
	uint64_t record[2] = {0, 0}, seen = UINT64_MAX;

	if (argc != 2)
		return 2;
	for (;;) {
		long length = read_whole(argv[1], buffer, sizeof(buffer));
		uint64_t number = number_of(buffer, length);

		if (length <= 0 || !number) {
			fprintf(stderr, "read gave %ld\n", length);
			return 1;
		}
		if (number == seen)
			continue;
		record[0] = seen = number;
		record[1] = now_ns();
		if (write(1, record, sizeof(record)) != sizeof(record))
			return 0;
	}
}
