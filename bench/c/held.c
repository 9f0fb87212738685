// SPDX-License-Identifier: Apache-2.0
/* A program that opens its secret once, and then rewinds and reads it over and over. Tells when it first saw each value.
 * held PATH   ->   records of seen.h on standard output; ends at the first failed read */
#include "seen.h"

static char buffer[LONGEST + 1];

int main(int argc, char **argv)
{
	int fd = argc == 2 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1, status = fd < 0 ? 2 : -1;

	while (status < 0)
		status = seen(buffer, lseek(fd, 0, SEEK_SET) ? -1 : read(fd, buffer, sizeof(buffer)));
	return status;
}
