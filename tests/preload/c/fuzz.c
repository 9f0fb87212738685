// SPDX-License-Identifier: Apache-2.0
/* Paths of every kind, told apart from what they ought to give: each call is made through the shim, and its answer must
 * be the one that system calls give for the path that a plain reading of KERNELSECRET_SHIM_PATHS leads to.
 *
 * libFuzzer makes the input: the first byte is the call and its flags, and the rest is the path, in which bytes from
 * 0x80 on stand for words that matter. FUZZ_ROOT is the folder of the test, with `live` and `app` in it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ROOM = 3 * 4096, PARTS = 4200, LONGEST_NAME = 512 };

static const char *root;
static char *page_end; /* behind it nothing may be read */
static const char *words[] = { "live", "app", "key", "own", "both", "sub", "inner", "link", "one", "/../", "/./", "//", "/", "..", "." };

struct answer {
	int error;
	dev_t dev;
	ino_t ino;
};

/* The parts of a path that mean something; -1 where there are too many. */
static int split(char *path, char **parts)
{
	int count = 0;

	for (char *part = strtok(path, "/"); part; part = strtok(NULL, "/"))
		if (strcmp(part, ".") && count < PARTS)
			parts[count++] = part;
	return count;
}

/* Where the path is found, by comparing parts: NULL where it is not redirected; `*unsure` where it is about too long. */
static const char *expected(const char *path, const char *prefix, const char *live, char *found, int *unsure)
{
	static char copy[ROOM], prefix_copy[1024], *parts[PARTS], *prefix_parts[PARTS];
	size_t length = strlen(path);
	int count, prefix_count, used;

	if (path[0] != '/')
		return NULL;
	count = split(strcpy(copy, path), parts);
	prefix_count = split(strcpy(prefix_copy, prefix), prefix_parts);
	if (count < prefix_count)
		return NULL;
	for (int i = 0; i < prefix_count; i++)
		if (strcmp(parts[i], prefix_parts[i]))
			return NULL;
	used = sprintf(found, "%s", live);
	for (int i = prefix_count; i < count; i++) {
		if (!strcmp(parts[i], ".."))
			return NULL;
		used += sprintf(found + used, "/%s", parts[i]);
	}
	if (path[length - 1] == '/' || (length > 1 && path[length - 1] == '.' && path[length - 2] == '/'))
		used += sprintf(found + used, "/");
	*unsure = used >= LONGEST_NAME - 8 && used <= LONGEST_NAME + 8;
	return used < LONGEST_NAME - 2 ? found : NULL;
}

static struct answer of_fd(int fd)
{
	struct stat state;
	struct answer answer = { errno, 0, 0 };

	if (fd < 0)
		return answer;
	if (syscall(SYS_fstat, fd, &state))
		abort();
	syscall(SYS_close, fd);
	return (struct answer){ 0, state.st_dev, state.st_ino };
}

static struct answer of_state(int result, const struct stat *state)
{
	if (result)
		return (struct answer){ errno, 0, 0 };
	return (struct answer){ 0, state->st_dev, state->st_ino };
}

enum { OPEN, OPEN_FOLDER, OPEN_NOFOLLOW, STAT, LSTAT, ACCESS, OPENAT, FOPEN, OPENDIR, OPEN_WRITE, STATX, CALLS };

static struct answer by_the_shim(unsigned call, const char *path)
{
	struct stat state;
	struct statx wide;
	struct answer answer;
	FILE *stream;
	DIR *folder;
	int result;

	errno = 0;
	switch (call) {
	case OPEN: return of_fd(open(path, O_RDONLY));
	case OPEN_FOLDER: return of_fd(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	case OPEN_NOFOLLOW: return of_fd(open(path, O_RDONLY | O_NOFOLLOW));
	case OPEN_WRITE: return of_fd(open(path, O_WRONLY));
	case OPENAT: return of_fd(openat(AT_FDCWD, path, O_RDONLY));
	case STAT: result = stat(path, &state); return of_state(result, &state);
	case LSTAT: result = lstat(path, &state); return of_state(result, &state);
	case ACCESS: result = access(path, R_OK); return (struct answer){ result ? errno : 0, 0, 0 };
	case STATX:
		result = statx(AT_FDCWD, path, 0, STATX_INO, &wide);
		return (struct answer){ result ? errno : 0, 0, result ? 0 : wide.stx_ino };
	case FOPEN:
		stream = fopen(path, "r");
		answer = of_fd(stream ? dup(fileno(stream)) : -1);
		if (stream)
			fclose(stream);
		return answer;
	default:
		folder = opendir(path);
		answer = of_fd(folder ? dup(dirfd(folder)) : -1);
		if (folder)
			closedir(folder);
		return answer;
	}
}

static struct answer by_system_calls(unsigned call, const char *path)
{
	struct stat state;
	int result, flags[] = { [OPEN] = O_RDONLY, [OPEN_FOLDER] = O_DIRECTORY, [OPEN_NOFOLLOW] = O_NOFOLLOW, [OPENAT] = 0,
				[FOPEN] = 0, [OPENDIR] = O_DIRECTORY, [OPEN_WRITE] = O_WRONLY };

	errno = 0;
	switch (call) {
	case ACCESS:
		result = (int)syscall(SYS_faccessat, AT_FDCWD, path, R_OK);
		return (struct answer){ result ? errno : 0, 0, 0 };
	case STAT:
	case LSTAT:
	case STATX:
		result = (int)syscall(SYS_newfstatat, AT_FDCWD, path, &state, call == LSTAT ? AT_SYMLINK_NOFOLLOW : 0);
		if (!result && call == STATX)
			state.st_dev = 0;
		return of_state(result, &state);
	default: return of_fd((int)syscall(SYS_openat, AT_FDCWD, path, flags[call], 0));
	}
}

/* The shim looks at a path only where the kernel had read it: other errors of the original stand. */
static int stands(int error)
{
	return error && error != ENOENT && error != ENOTDIR && error != EACCES && error != ELOOP;
}

static void check(unsigned call, const char *path)
{
	static char app[1024], live[1024], one[1024], key[1024], found[ROOM + 1024];
	struct answer seen = by_the_shim(call, path), right = by_system_calls(call, path);
	const char *there = NULL;
	int unsure = 0;

	if (!*app) {
		snprintf(app, sizeof(app), "%s/app", root);
		snprintf(one, sizeof(one), "%s/app/one", root);
		snprintf(live, sizeof(live), "%s/live", root);
		snprintf(key, sizeof(key), "%s/live/key", root);
	}
	if (call != OPEN_WRITE && !stands(right.error)) {
		if (!(there = expected(path, one, key, found, &unsure)) && !unsure)
			there = expected(path, app, live, found, &unsure);
	}
	if (there) {
		/* The names in a volume are links, which a program need not know of. */
		unsigned followed = call == LSTAT ? STAT : call == OPEN_NOFOLLOW ? OPEN : call;
		struct answer better = by_system_calls(followed, there);

		if (better.error != ENOENT && better.error != ENOTDIR && better.error != ENAMETOOLONG)
			right = better;
	}
	if (unsure || (seen.error == right.error && seen.dev == right.dev && seen.ino == right.ino))
		return;
	fprintf(stderr, "call %u of %s: %d %lu, not %d %lu (%s)\n", call, path, seen.error, (unsigned long)seen.ino,
		right.error, (unsigned long)right.ino, there ? there : "as it is");
	abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char *pages = mmap(NULL, ROOM + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)argc, (void)argv;
	root = getenv("FUZZ_ROOT");
	if (!root || pages == MAP_FAILED || mprotect(pages + ROOM, 4096, PROT_NONE) || chdir(root))
		abort();
	page_end = pages + ROOM;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char text[ROOM];
	size_t used = 0;

	if (!size)
		return 0;
	for (size_t i = 1; i < size && used < ROOM - 1024; i++) {
		size_t word = (size_t)data[i] - 0x80;

		if (data[i] < 0x80 || word > 0x3f)
			text[used++] = (char)data[i];
		else if (word < sizeof(words) / sizeof(words[0]))
			used += (size_t)sprintf(text + used, "%s", words[word]);
		else if (word < 0x30)
			used += (size_t)sprintf(text + used, "%s", root);
		else if (word < 0x38)
			used += (size_t)sprintf(text + used, "%s/app/", root);
		else
			used += (size_t)sprintf(text + used, "%0*d", (int)(word - 0x37) * 60, 0);
	}
	text[used] = 0;
	/* Where a string ends with the page, so that a byte read beyond it is a fault. */
	size_t bytes = strlen(text) + 1;
	check(data[0] % CALLS, memcpy(page_end - bytes, text, bytes));
	return 0;
}
