// SPDX-License-Identifier: Apache-2.0
/* A program that sleeps until inotify tells it that its secret has changed, as servers that reload do.
 * notified INDEX PATH   ->   records on standard output, one each time that size and content are of a new value */
#include "files.h"
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>

struct record {
	uint64_t index, number, at_ns, early; /* early: wakings at which size or content was not the new one yet */
};

static char buffer[1 << 16], events[4096];

int main(int argc, char **argv)
{
	struct record record = {0};
	uint64_t seen = 0, number;
	struct stat status;
	int watch;

	if (argc != 3)
		return 2;
	record.index = strtoull(argv[1], 0, 10);
	watch = inotify_init1(IN_CLOEXEC);
	if (watch < 0 || inotify_add_watch(watch, argv[2], IN_MODIFY) < 0) {
		perror(argv[2]);
		return 1;
	}
	for (;;) {
		long length = read_whole(argv[2], buffer, sizeof(buffer));

		number = number_of(buffer, length);
		if (!number || stat(argv[2], &status)) {
			fprintf(stderr, "read gave %ld\n", length);
			return 1;
		}
		if (number != seen && status.st_size == length) {
			record.number = seen = number;
			record.at_ns = now_ns();
			if (write(1, &record, sizeof(record)) != sizeof(record))
				return 0;
			record.early = 0;
		} else {
			record.early++;
		}
		if (read(watch, events, sizeof(events)) <= 0)
			return 1;
	}
}
