// SPDX-License-Identifier: Apache-2.0
/* A program that reads its secret over and over. Tells when it first saw each value.
 * first PATH   ->   records of seen.h on standard output; ends at the first failed read */
#include "seen.h"

static char buffer[LONGEST + 1];

int main(int argc, char **argv)
{
	int status = argc == 2 ? -1 : 2;

	while (status < 0)
		status = seen(buffer, read_whole(argv[1], buffer, sizeof(buffer)));
	return status;
}
