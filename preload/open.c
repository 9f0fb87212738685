// SPDX-License-Identifier: Apache-2.0
/* Opening. The host's function is called first and as it was called: what it refuses, or what is not ours, stands. So
 * the path is looked at only when the kernel has read it already. */
#include "shim.h"

typedef struct folder Folder;

static inline int only_reads(int flags)
{
	return (flags & (O_ACCMODE | O_CREAT | O_TRUNC)) == O_RDONLY;
}

/* Names the file that was asked for below a tracked folder. */
static uint32_t joined(int dirfd, const char *path, char *name)
{
	uint32_t folder = held_folder(dirfd), bytes = 0;

	if (!folder || !*path)
		return 0;
	for (const char *base = names_text(folder); base[bytes]; bytes++)
		;
	/* A plain base, and a part that begins: "./x" below it is "x". */
	while (*path == '/' || (*path == '.' && path[1] == '/'))
		path++;
	const char *base = names_text(folder);
	while (bytes && base[bytes - 1] == '/')
		bytes--;
	return *path && !(*path == '.' && !path[1]) ? paths_join(name, base, bytes, path) : 0;
}

/* The same where no descriptor was left, which is said before the name is looked at. */
static int is_absent_at(int error, const char *name)
{
	struct file_state state;

	if (error == EMFILE || error == ENFILE)
		error = -(int)raw_statat(AT_FDCWD, name, &state, 0);
	return is_absent(error);
}

/* The descriptor. Where the live file is there and cannot be had, `refused` is the errno, and `fd` as it was. */
static SLOW int opened_ours(int fd, const struct entry *entry, const char *rest, int dirfd, const char *path, int flags,
			    int errno_before, int *refused)
{
	char name[NAME_BYTES];
	uint32_t bytes;

	if (entry)
		bytes = paths_join(name, entry->live ? entry->live : entry->path, entry->live_bytes, rest);
	else
		bytes = joined(dirfd, path, name);
	if (!bytes)
		return fd;
	if (entry && entry->live) {
		/* The volume's names are links, which PATH need not know of. */
		int live = (int)raw_openat(AT_FDCWD, name, flags & ~O_NOFOLLOW);

		if (live < 0 && is_absent_at(-live, name))
			return fd;
		if (live >= 0 && fd >= 0) {
			long put = raw_dup3(live, fd, flags & O_CLOEXEC);

			raw_close(live);
			live = (int)put;
		}
		if (live < 0) {
			*refused = -live;
			return fd;
		}
		fd = live;
		errno_set(errno_before);
	}
	if (fd >= 0 && !(flags & O_PATH))
		held_track(fd, name, bytes);
	return fd;
}

static int opened_here(int fd, int dirfd, const char *path, int flags, int errno_before, int *refused)
{
	const struct entry *entry = NULL;
	const char *rest = NULL;

	if (fd >= 0)
		held_forget(fd);
	if (!paths_ready() || !only_reads(flags) || (fd < 0 && !path_was_read(errno_get())))
		return fd;
	if (path[0] == '/')
		entry = paths_of(path, &rest);
	if (!entry && (path[0] == '/' || fd < 0 || !(held_name(dirfd) & HELD_FOLDER)))
		return fd;
	return opened_ours(fd, entry, rest, dirfd, path, flags, errno_before, refused);
}

SLOW int opened(int fd, int dirfd, const char *path, int flags, int errno_before)
{
	int refused = 0;

	fd = opened_here(fd, dirfd, path, flags, errno_before, &refused);
	if (likely(!refused))
		return fd;
	if (fd >= 0) {
		/* Its number may be all that was wanting. */
		raw_close(fd);
		errno_set(ENOENT);
		refused = 0;
		fd = opened_here(-1, dirfd, path, flags, errno_before, &refused);
	}
	return refused ? (int)answered(-refused) : fd;
}

SLOW int opened_beside(int fd, const char *path, int flags)
{
	int refused = 0;

	opened_here(fd, AT_FDCWD, path, flags, errno_get(), &refused);
	return !refused;
}

/* Whether an open that has succeeded is nothing to us, as most are: in each function itself, since it must cost little. */
static inline int is_not_ours(int fd, int dirfd, const char *path)
{
	const char *rest;

	if (!paths_ready() || !known.paths.count)
		return 1;
	if (fd < 0 || held_name(fd))
		return 0;
	return path[0] == '/' ? !paths_of(path, &rest) : !(held_name(dirfd) & HELD_FOLDER);
}

/* With three arguments, not variadic: the calling conventions of both architectures pass them alike. */
#define OPEN(name) \
	TAKEN int name(const char *path, int flags, unsigned mode) \
	{ \
		int before = errno_kept(); \
		int (*next)(const char *, int, ...) = (int (*)(const char *, int, ...))next_of(NEXT_##name); \
		int fd = likely(next) ? next(path, flags, mode) \
				      : (int)answered(raw(NR_OPENAT, AT_FDCWD, (long)path, flags, mode, 0, 0)); \
		return likely(is_not_ours(fd, AT_FDCWD, path)) ? fd : opened(fd, AT_FDCWD, path, flags, before); \
	}
#define OPENAT(name) \
	TAKEN int name(int dirfd, const char *path, int flags, unsigned mode) \
	{ \
		int before = errno_kept(); \
		int (*next)(int, const char *, int, ...) = (int (*)(int, const char *, int, ...))next_of(NEXT_##name); \
		int fd = likely(next) ? next(dirfd, path, flags, mode) \
				      : (int)answered(raw(NR_OPENAT, dirfd, (long)path, flags, mode, 0, 0)); \
		return likely(is_not_ours(fd, dirfd, path)) ? fd : opened(fd, dirfd, path, flags, before); \
	}
/* The fortified forms: the host's ends the program where a mode is needed and not given, so it is always called. */
#define OPEN_2(name) \
	TAKEN int name(const char *path, int flags) \
	{ \
		int before = errno_kept(); \
		int (*next)(const char *, int) = (int (*)(const char *, int))next_of(NEXT_##name); \
		int fd = likely(next) ? next(path, flags) \
				      : (int)answered(raw_openat(AT_FDCWD, path, flags)); \
		return likely(is_not_ours(fd, AT_FDCWD, path)) ? fd : opened(fd, AT_FDCWD, path, flags, before); \
	}
#define OPENAT_2(name) \
	TAKEN int name(int dirfd, const char *path, int flags) \
	{ \
		int before = errno_kept(); \
		int (*next)(int, const char *, int) = (int (*)(int, const char *, int))next_of(NEXT_##name); \
		int fd = likely(next) ? next(dirfd, path, flags) : (int)answered(raw_openat(dirfd, path, flags)); \
		return likely(is_not_ours(fd, dirfd, path)) ? fd : opened(fd, dirfd, path, flags, before); \
	}

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
OPEN_2(__open_2)
OPEN_2(__open64_2)
OPENAT_2(__openat_2)
OPENAT_2(__openat64_2)

TAKEN Folder *opendir(const char *path)
{
	int before = errno_kept();
	Folder *(*next)(const char *) = (Folder * (*)(const char *)) next_of(NEXT_opendir);
	int (*number)(Folder *) = (int (*)(Folder *))next_of(NEXT_dirfd);
	int (*close)(Folder *) = (int (*)(Folder *))next_of(NEXT_closedir);
	Folder *folder = next ? next(path) : (Folder *)(answered(-ENOSYS), NULL);
	char name[NAME_BYTES];
	const char *rest;

	if (!next || !number || !close || !paths_ready() || (!folder && !path_was_read(errno_get())))
		return folder;
	const struct entry *entry = paths_of(path, &rest);
	if (likely(!entry))
		return folder;
	uint32_t bytes = paths_join(name, entry->live ? entry->live : entry->path, entry->live_bytes, rest);
	if (!bytes)
		return folder;
	if (entry->live) {
		int error = errno_get();
		Folder *live = next(name);

		if (!live && is_absent_at(errno_get(), name)) {
			errno_set(error);
			return folder;
		}
		if (folder)
			close(folder);
		/* Its number may be all that was wanting. */
		folder = live || !folder ? live : next(name);
		if (folder)
			errno_set(before);
	}
	if (folder)
		held_track(number(folder), name, bytes);
	return folder;
}

/* The host's makes the whole list, and calls the program's functions: so which path it gets is seen before. */
#define SCANDIR(function) \
	TAKEN int function(const char *path, void *list, void *filter, void *order) \
	{ \
		int (*next)(const char *, void *, void *, void *) = \
			(int (*)(const char *, void *, void *, void *))next_of(NEXT_##function); \
		char name[NAME_BYTES]; \
		const char *there = NULL; \
		if (!next) \
			return (int)answered(-ENOSYS); \
		if (paths_ready() && known.paths.has_overlay && path_is_readable(path)) \
			there = paths_redirected(path, name); \
		return next(there && is_folder(there) ? there : path, list, filter, order); \
	}

static int path_is_readable(const char *path)
{
	long result = raw(NR_FACCESSAT, AT_FDCWD, (long)path, F_OK, 0, 0, 0);

	return !result || path_was_read((int)-result);
}

static int is_folder(const char *path)
{
	struct file_state state;

	return !raw_statat(AT_FDCWD, path, &state, 0) && (state.mode & S_IFMT) == S_IFDIR;
}

SCANDIR(scandir)
SCANDIR(scandir64)

/* The loader calls it before the program's threads are there. Nothing relies on it. */
static __attribute__((constructor)) void begin(void)
{
	next_find_all();
	paths_read();
}
