/* read LIVE PREFIXED MOUNTED: as read.py, in the ways of C; compiled with musl-gcc. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LINES = 500, LINE = 9, ROOM = 16384, MOST_FAULTS = 10 };

static volatile sig_atomic_t stopped;
static const char *live, *prefixed, *mounted;
static int held, also_held;
static FILE *stream, *also_stream;
static char value[ROOM];
static char faults[MOST_FAULTS][200];
static int fault_count;

static void stop(int number) { (void)number; stopped = 1; }

static long all(int fd, int by_offset)
{
	long length = 0, got;

	if (!by_offset && lseek(fd, 0, SEEK_SET) < 0)
		return -1;
	while ((got = by_offset ? pread(fd, value + length, 1024, length) : read(fd, value + length, 1024)) > 0)
		length += got;
	return got < 0 ? got : length;
}

static long drained(FILE *file)
{
	long length = fread(value, 1, ROOM, file);

	return ferror(file) ? -1 : length;
}

static long by_fopen_of(const char *path)
{
	FILE *file = fopen(path, "r");
	long length = file ? drained(file) : -1;

	if (file)
		fclose(file);
	return length;
}

static long by_fopen(void) { return by_fopen_of(live); }
static long by_fopen_mounted(void) { return by_fopen_of(mounted); }

static long by_open(void)
{
	int fd = open(prefixed, O_RDONLY | O_CLOEXEC);
	long length = fd < 0 ? -1 : all(fd, 0);

	if (fd >= 0)
		close(fd);
	return length;
}

static long by_lseek(void) { return all(held, 0); }
static long by_pread(void) { return all(also_held, 1); }
static long by_rewind(void) { rewind(stream); return drained(stream); }
static long by_fseek(void) { return fseek(also_stream, 0, SEEK_SET) ? -1 : drained(also_stream); }

static const struct way { const char *name; long (*read)(void); } ways[] = {
	{ "fopen, fread", by_fopen },
	{ "lseek, read", by_lseek },
	{ "open, read (prefix)", by_open },
	{ "fopen, fread (subPath)", by_fopen_mounted },
	{ "pread at 0", by_pread },
	{ "rewind, fread", by_rewind },
	{ "fseek, fread", by_fseek },
};
enum { WAYS = sizeof(ways) / sizeof(*ways) };

static void fault(const char *way, const char *what, long found)
{
	if (fault_count < MOST_FAULTS)
		snprintf(faults[fault_count++], sizeof(*faults), "%s: %s (%ld)", way, what, found);
}

/* Whose value it is; -1 where it is not one whole value. */
static long number_of(long length)
{
	char digits[LINE] = { 0 };
	long number, at;

	if (length < LINE)
		return -1;
	memcpy(digits, value, LINE - 1);
	number = atol(digits);
	if (length != LINE * (LINES + number % 64))
		return -1;
	for (at = LINE; at < length; at += LINE)
		if (memcmp(value, value + at, LINE))
			return -1;
	return number;
}

int main(int count, char **words)
{
	struct sigaction action = { .sa_handler = stop };
	struct timespec pause = { .tv_nsec = 4000000 };
	long reads[WAYS] = { 0 }, last = 0, versions = 0, number, length;
	struct stat found;
	int i, is_last_round;

	if (count != 4)
		return 2;
	live = words[1];
	prefixed = words[2];
	mounted = words[3];
	sigaction(SIGTERM, &action, NULL);
	held = open(live, O_RDONLY);
	also_held = open(prefixed, O_RDONLY);
	stream = fopen(live, "r");
	also_stream = fopen(prefixed, "r");
	if (held < 0 || also_held < 0 || !stream || !also_stream) {
		perror("open");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	do {
		is_last_round = stopped;
		for (i = 0; i < WAYS; i++) {
			reads[i]++;
			errno = 0;
			length = ways[i].read();
			number = number_of(length);
			if (length < 0)
				fault(ways[i].name, strerror(errno), errno);
			else if (number < 0)
				fault(ways[i].name, "not one whole value", length);
			else if (number < last)
				fault(ways[i].name, "earlier than before", number);
			versions += number > last;
			last = number > last ? number : last;
		}
		if (access(prefixed, R_OK) || stat(prefixed, &found) || found.st_size % LINE)
			fault("access, stat", strerror(errno), errno);
		nanosleep(&pause, NULL);
	} while (!is_last_round);
	printf("{\"reads\": {");
	for (i = 0; i < WAYS; i++)
		printf("%s\"%s\": %ld", i ? ", " : "", ways[i].name, reads[i]);
	printf("}, \"faults\": [");
	for (i = 0; i < fault_count; i++)
		printf("%s\"%s\"", i ? ", " : "", faults[i]);
	printf("], \"last\": %ld, \"versions\": %ld}\n", last, versions);
	return 0;
}
