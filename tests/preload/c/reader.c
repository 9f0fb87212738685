// SPDX-License-Identifier: Apache-2.0
/* Does what it is told, a line each, and answers with a line: `NAME ARGUMENT...`. Functions are found by name, so that
 * one program, built once for each libc, tries every form that a libc has. `!N` is errno N, `absent` a libc without it.
 * errno is set to 77 before each call, and `~` after an answer says that it was changed though the call succeeded. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MARK = 77 };

static char text[1 << 16];
static FILE *streams[64];

static void say(long result, const char *format, ...)
{
	int error = errno;
	va_list arguments;

	if (result < 0) {
		printf("!%d\n", error);
		return;
	}
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	puts(error == MARK ? "" : "~");
}

static void say_read(long bytes)
{
	if (bytes >= 0)
		text[bytes] = 0;
	say(bytes, "%s", text);
}

static int is(const char *name, const char *beginning)
{
	return !strncmp(name, beginning, strlen(beginning));
}

/* `0xN` is an address, `-` is NULL, anything else is itself. */
static char *path_of(char *word)
{
	return !strcmp(word, "-") ? NULL : is(word, "0x") ? (char *)strtoul(word, NULL, 0) : word;
}

static void seek(const char *name, void *function, int argc, char **argv)
{
	long fd = atol(argv[1]), offset = argc > 2 ? atol(argv[2]) : 0, place;
	int whence = argc > 3 ? atoi(argv[3]) : SEEK_SET;
	FILE *stream = (unsigned long)fd < 64 ? streams[fd] : NULL;

	if (strstr(name, "seek") && name[0] == 'l')
		place = ((off_t(*)(int, off_t, int))function)((int)fd, offset, whence), say(place, "%ld", place);
	else if (is(name, "fseek"))
		say(((int (*)(FILE *, long, int))function)(stream, offset, whence), "0");
	else if (is(name, "rewind"))
		((void (*)(FILE *))function)(stream), say(0, "0");
	else if (is(name, "fsetpos")) {
		fpos_t place;

		memset(&place, 0, sizeof(place));
		say(((int (*)(FILE *, fpos_t *))function)(stream, &place), "0");
	}
}

static void read_at(const char *name, void *function, char **argv)
{
	int fd = atoi(argv[1]);
	long bytes = atol(argv[2]), offset = atol(argv[3]);
	struct iovec vector = { text, (size_t)bytes };

	if (is(name, "__pread"))
		say_read(((long (*)(int, void *, size_t, off_t, size_t))function)(fd, text, bytes, offset, sizeof(text)));
	else if (is(name, "preadv2") || is(name, "preadv64v2"))
		say_read(((long (*)(int, void *, int, off_t, int))function)(fd, &vector, 1, offset, 0));
	else if (is(name, "preadv"))
		say_read(((long (*)(int, void *, int, off_t))function)(fd, &vector, 1, offset));
	else
		say_read(((long (*)(int, void *, size_t, off_t))function)(fd, text, bytes, offset));
}

static void look(const char *name, void *function, int argc, char **argv)
{
	char *path = path_of(argv[1]);
	int number = argc > 2 ? atoi(argv[2]) : 0;
	struct stat state = { 0 };

	if (is(name, "statx") || is(name, "syscall")) {
		uint64_t wide[32] = { 0 };
		long result = is(name, "syscall")
				      ? ((long (*)(long, ...))function)(SYS_statx, AT_FDCWD, path, 0, 0x7ff, wide)
				      : ((int (*)(int, char *, int, unsigned, void *))function)(AT_FDCWD, path, 0, 0x7ff, wide);

		say(result, "%lu %lu", wide[4], wide[5]);
		return;
	}
	int result = is(name, "__fxstatat") ? ((int (*)(int, int, char *, void *, int))function)(1, AT_FDCWD, path, &state, 0)
		     : is(name, "fstatat")  ? ((int (*)(int, char *, void *, int))function)(AT_FDCWD, path, &state, 0)
		     : is(name, "__")	    ? ((int (*)(int, char *, void *))function)(1, path, &state)
		     : strstr(name, "stat") ? ((int (*)(char *, void *))function)(path, &state)
		     : is(name, "faccess")  ? ((int (*)(int, char *, int, int))function)(AT_FDCWD, path, number, 0)
					    : ((int (*)(char *, int))function)(path, number);
	if (strstr(name, "access"))
		say(result, "0");
	else
		say(result, "%lu %ld", (unsigned long)state.st_ino, (long)state.st_size);
}

static void list(const char *name, void *function, char **argv)
{
	struct dirent **entries, *entry;
	char names[4096] = "";
	int count = 0, error;

	if (is(name, "scandir")) {
		count = ((int (*)(char *, struct dirent ***, void *, void *))function)(path_of(argv[1]), &entries, NULL,
										    (void *)alphasort);
		error = errno;
		for (int i = 0; i < count; free(entries[i++]))
			if (entries[i]->d_name[0] != '.')
				strcat(strcat(names, " "), entries[i]->d_name);
		if (count >= 0)
			free(entries);
		errno = count < 0 ? error : MARK;
		say(count, "%s", names);
		return;
	}
	DIR *folder = ((DIR * (*)(char *)) function)(path_of(argv[1]));
	error = errno;
	while (folder && (entry = readdir(folder)))
		if (entry->d_name[0] != '.')
			strcat(strcat(names, " "), entry->d_name);
	if (folder)
		closedir(folder);
	errno = error;
	say(folder ? 0 : -1, "%s", names);
}

static void stream(const char *name, void *function, int argc, char **argv)
{
	long slot = atol(argv[1]);
	size_t bytes;

	if (is(name, "fopen"))
		streams[slot] = ((FILE * (*)(char *, char *)) function)(path_of(argv[2]), argv[3]);
	else if (is(name, "freopen"))
		streams[slot] = ((FILE * (*)(char *, char *, FILE *)) function)(path_of(argv[2]), argv[3], streams[slot]);
	else if (is(name, "fdopen"))
		streams[slot] = fdopen(atoi(argv[2]), argv[3]);
	else if (is(name, "fread")) {
		bytes = fread(text, 1, argc > 2 ? (size_t)atol(argv[2]) : sizeof(text) - 1, streams[slot]);
		errno = MARK;
		say_read((long)bytes);
		return;
	} else if (is(name, "ftell")) {
		printf("%ld\n", ftell(streams[slot]));
		return;
	} else if (is(name, "fclose")) {
		say(fclose(streams[slot]), "0");
		return;
	}
	say(streams[slot] ? 0 : -1, "%d", streams[slot] ? fileno(streams[slot]) : -1);
}

static void descriptor(const char *name, void *function, int argc, char **argv)
{
	int first = atoi(argv[1]), result;
	long second = argc > 2 ? atol(argv[2]) : 0, third = argc > 3 ? atol(argv[3]) : 0;

	if (is(name, "fcntl"))
		result = ((int (*)(int, int, ...))function)(first, (int)second, third);
	else
		result = !strcmp(name, "dup3") ? dup3(first, (int)second, (int)third)
			 : !strcmp(name, "dup2") ? ((int (*)(int, int))function)(first, (int)second)
						 : ((int (*)(int))function)(first);
	say(result, "%d", result);
}

static void open_it(const char *name, void *function, int argc, char **argv)
{
	int at = strstr(name, "openat") != NULL, two = is(name, "__open"), fd;
	int folder = at ? atoi(argv[1]) : 0, flags = argc > 2 + at ? (int)strtol(argv[2 + at], NULL, 0) : 0;
	char *path = path_of(argv[1 + at]);

	if (at)
		fd = two ? ((int (*)(int, char *, int))function)(folder, path, flags)
			 : ((int (*)(int, char *, int, ...))function)(folder, path, flags, 0600);
	else
		fd = two ? ((int (*)(char *, int))function)(path, flags)
			 : ((int (*)(char *, int, ...))function)(path, flags, 0600);
	say(fd, "%d", fd);
}

int main(void)
{
	char line[20000], *argv[8];

	setvbuf(stdout, NULL, _IOLBF, 4096);
	while (fgets(line, sizeof(line), stdin)) {
		int argc = 0;

		line[strcspn(line, "\n")] = 0;
		for (char *word = strtok(line, " "); word && argc < 8; word = strtok(NULL, " "))
			argv[argc++] = word;
		const char *name = argv[0];
		void *function = dlsym(RTLD_DEFAULT, name);
		errno = MARK;
		if (!function)
			puts("absent");
		else if (!strcmp(name, "read"))
			say_read(read(atoi(argv[1]), text, argc > 2 ? (size_t)atol(argv[2]) : sizeof(text) - 1));
		else if (!strcmp(name, "close"))
			say(close(atoi(argv[1])), "0");
		else if (is(name, "opendir") || is(name, "scandir"))
			list(name, function, argv);
		else if (is(name, "open") || is(name, "__open"))
			open_it(name, function, argc, argv);
		else if (is(name, "dup") || is(name, "fcntl"))
			descriptor(name, function, argc, argv);
		else if (is(name, "pread") || is(name, "__pread"))
			read_at(name, function, argv);
		else if (strstr(name, "stat") || strstr(name, "access") || is(name, "syscall"))
			look(name, function, argc, argv);
		else if (is(name, "fseek") || is(name, "rewind") || is(name, "fsetpos") || is(name, "l"))
			seek(name, function, argc, argv);
		else
			stream(name, function, argc, argv);
	}
	return 0;
}
