// SPDX-License-Identifier: Apache-2.0
/* A program that opens its secret once, and then rewinds and reads it over and over. Tells when it first saw each value.
 * held PATH   ->   records {value's number, CLOCK_MONOTONIC ns} on standard output; ends at the first failed read */
#include "files.h"
#include <stdio.h>

static char buffer[LONGEST + 1];

int main(int argc, char **argv)
{
	uint64_t record[2] = {0, 0}, seen = UINT64_MAX;
	int fd = argc == 2 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;

	if (fd < 0)
		return 2;
	for (;;) {
		long length = lseek(fd, 0, SEEK_SET) ? -1 : read(fd, buffer, sizeof(buffer));
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
