// SPDX-License-Identifier: Apache-2.0
/* Looking at a path: stat, access and their forms. Only what is found elsewhere (PATH=LIVE) makes a difference: there
 * the host's function is called again with the live path, and where nothing is there its first answer stands. */
#include "shim.h"

/* Whether a call that answered `result` is to be made again with the path in `there`. A path may be NULL: newer kernels
 * take that with AT_EMPTY_PATH. */
static inline int is_elsewhere(int result, const char *path, char *there)
{
	const char *rest;

	if (!paths_ready() || !known.paths.has_overlay || !path || (result && !path_was_read(errno_get())))
		return 0;
	return unlikely(paths_of(path, &rest) != NULL) && paths_redirected(path, there);
}

/* What the call is that was made again: its own result, unless nothing is there. */
static inline int looked(int again, int result, int error, int before)
{
	if (!again)
		errno_set(before);
	else if (is_absent(errno_get()))
		errno_set(error);
	else
		return again;
	return again ? result : 0;
}

/* `CALL` and `RAW` are expressions in the parameters, of which one is `path`. `FOLLOW` has a link followed: the names in
 * LIVE are links, which PATH need not know of. */
#define LOOK(name, parameters, types, CALL, RAW, ASKED, FOLLOW) \
	TAKEN int name parameters \
	{ \
		int (*next) types = (int (*) types)next_of(NEXT_##name); \
		char there[NAME_BYTES]; \
		int before = errno_kept(), error, result = next ? CALL : (int)answered(RAW); \
		if (likely(!(ASKED) || !is_elsewhere(result, path, there))) \
			return result; \
		error = errno_get(); \
		path = there; \
		FOLLOW; \
		return looked(next ? CALL : (int)answered(RAW), result, error, before); \
	}

#define NO_LINKS flags &= ~AT_SYMLINK_NOFOLLOW
#define AS(name) next = (__typeof__(next))next_of(NEXT_##name)

#define STAT(name, FOLLOWING, FLAGS) \
	LOOK(name, (const char *path, void *state), (const char *, void *), next(path, state), \
	     raw_statat(AT_FDCWD, path, state, path == there ? 0 : FLAGS), 1, AS(FOLLOWING))
#define FSTATAT(name) \
	LOOK(name, (int dirfd, const char *path, void *state, int flags), (int, const char *, void *, int), \
	     next(dirfd, path, state, flags), raw_statat(dirfd, path, state, flags), 1, NO_LINKS)
/* As programs call them that were built before glibc 2.33; the version of the struct is always the kernel's. */
#define XSTAT(name, FOLLOWING, FLAGS) \
	LOOK(name, (int version, const char *path, void *state), (int, const char *, void *), \
	     next(version, path, state), raw_statat(AT_FDCWD, path, state, path == there ? 0 : FLAGS), 1, \
	     AS(FOLLOWING))
#define FXSTATAT(name) \
	LOOK(name, (int version, int dirfd, const char *path, void *state, int flags), \
	     (int, int, const char *, void *, int), next(version, dirfd, path, state, flags), \
	     raw_statat(dirfd, path, state, flags), 1, NO_LINKS)
#define ACCESS(name, RAW) \
	LOOK(name, (const char *path, int mode), (const char *, int), next(path, mode), RAW, !(mode & W_OK), )

STAT(stat, stat, 0)
STAT(stat64, stat64, 0)
STAT(lstat, stat, AT_SYMLINK_NOFOLLOW)
STAT(lstat64, stat64, AT_SYMLINK_NOFOLLOW)
FSTATAT(fstatat)
FSTATAT(fstatat64)
XSTAT(__xstat, __xstat, 0)
XSTAT(__xstat64, __xstat64, 0)
XSTAT(__lxstat, __xstat, AT_SYMLINK_NOFOLLOW)
XSTAT(__lxstat64, __xstat64, AT_SYMLINK_NOFOLLOW)
FXSTATAT(__fxstatat)
FXSTATAT(__fxstatat64)

LOOK(statx, (int dirfd, const char *path, int flags, unsigned mask, void *state),
     (int, const char *, int, unsigned, void *), next(dirfd, path, flags, mask, state),
     raw(NR_STATX, dirfd, (long)path, flags, mask, (long)state, 0), 1, NO_LINKS)

ACCESS(access, raw(NR_FACCESSAT, AT_FDCWD, (long)path, mode, 0, 0, 0))
ACCESS(euidaccess, raw(NR_FACCESSAT2, AT_FDCWD, (long)path, mode, AT_EACCESS, 0, 0))
ACCESS(eaccess, raw(NR_FACCESSAT2, AT_FDCWD, (long)path, mode, AT_EACCESS, 0, 0))
LOOK(faccessat, (int dirfd, const char *path, int mode, int flags), (int, const char *, int, int),
     next(dirfd, path, mode, flags), raw(NR_FACCESSAT2, dirfd, (long)path, mode, flags, 0, 0), !(mode & W_OK), NO_LINKS)

typedef long any_call(long number, long a, long b, long c, long d, long e, long f);

static SLOW long statx_by_number(any_call *next, long dirfd, const char *path, long flags, long mask, long state)
{
	char there[NAME_BYTES];
	int before = errno_get();
	long result = next(NR_STATX, dirfd, (long)path, flags, mask, state, 0);

	if (!is_elsewhere((int)result, path, there))
		return result;
	int error = errno_get();
	long again = next(NR_STATX, dirfd, (long)there, flags & ~AT_SYMLINK_NOFOLLOW, mask, state, 0);
	return looked((int)again, (int)result, error, before);
}

/* libuv, and so Node, looks at files by this number alone. All others are passed on by a jump, with nothing of ours on
 * the stack: what they start may come back on another one. */
TAKEN long syscall(long number, long a, long b, long c, long d, long e, long f)
{
	any_call *next = (any_call *)next_of(NEXT_syscall);

	if (unlikely(!next))
		return answered(raw(number, a, b, c, d, e, f));
	if (number == NR_STATX)
		return statx_by_number(next, a, (const char *)b, c, d, e);
	return next(number, a, b, c, d, e, f);
}
