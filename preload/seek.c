// SPDX-License-Identifier: Apache-2.0
/* Going back to the beginning, which is when a reader means to see what is there now; and copies of descriptors. */
#include "shim.h"

static inline void before_seek(int fd, int64_t offset, int whence)
{
	if (likely(!held_name(fd)) || offset)
		return;
	if (whence == SEEK_SET)
		held_renew(fd, REWOUND);
	else if (whence == SEEK_END)
		held_renew(fd, ONLY_AT_AN_END);
}

static inline void before_read(int fd, int64_t offset)
{
	if (unlikely(held_name(fd)) && !offset)
		held_renew(fd, ONLY_AT_AN_END);
}

#define LSEEK(name) \
	TAKEN int64_t name(int fd, int64_t offset, int whence) \
	{ \
		int64_t (*next)(int, int64_t, int) = (int64_t (*)(int, int64_t, int))next_of(NEXT_##name); \
		before_seek(fd, offset, whence); \
		return likely(next) ? next(fd, offset, whence) : answered(raw_lseek(fd, offset, whence)); \
	}
#define PREAD(name) \
	TAKEN long name(int fd, void *into, size_t bytes, int64_t offset) \
	{ \
		long (*next)(int, void *, size_t, int64_t) = (long (*)(int, void *, size_t, int64_t))next_of(NEXT_##name); \
		before_read(fd, offset); \
		return likely(next) ? next(fd, into, bytes, offset) \
				    : answered(raw(NR_PREAD, fd, (long)into, (long)bytes, offset, 0, 0)); \
	}
/* Fortified: the host's ends the program where `room` is too little. */
#define PREAD_CHK(name) \
	TAKEN long name(int fd, void *into, size_t bytes, int64_t offset, size_t room) \
	{ \
		long (*next)(int, void *, size_t, int64_t, size_t) = \
			(long (*)(int, void *, size_t, int64_t, size_t))next_of(NEXT_##name); \
		before_read(fd, offset); \
		if (unlikely(!next)) { \
			if (bytes > room) \
				__builtin_trap(); \
			return answered(raw(NR_PREAD, fd, (long)into, (long)bytes, offset, 0, 0)); \
		} \
		return next(fd, into, bytes, offset, room); \
	}
#define PREADV(name) \
	TAKEN long name(int fd, const void *vectors, int count, int64_t offset) \
	{ \
		long (*next)(int, const void *, int, int64_t) = (long (*)(int, const void *, int, int64_t))next_of(NEXT_##name); \
		before_read(fd, offset); \
		return likely(next) ? next(fd, vectors, count, offset) \
				    : answered(raw(NR_PREADV, fd, (long)vectors, count, offset, 0, 0)); \
	}
/* At offset -1 it reads at the position, as readv does. */
#define PREADV2(name) \
	TAKEN long name(int fd, const void *vectors, int count, int64_t offset, int flags) \
	{ \
		long (*next)(int, const void *, int, int64_t, int) = \
			(long (*)(int, const void *, int, int64_t, int))next_of(NEXT_##name); \
		before_read(fd, offset); \
		return likely(next) ? next(fd, vectors, count, offset, flags) \
				    : answered(raw(NR_PREADV2, fd, (long)vectors, count, offset, 0, flags)); \
	}

LSEEK(lseek)
LSEEK(lseek64)
LSEEK(llseek)
PREAD(pread)
PREAD(pread64)
PREAD_CHK(__pread_chk)
PREAD_CHK(__pread64_chk)
PREADV(preadv)
PREADV(preadv64)
PREADV2(preadv2)
PREADV2(preadv64v2)

static inline int copied(int from, int to)
{
	if (unlikely(held_name(from) | held_name(to)) && to >= 0)
		held_copy(from, to);
	return to;
}

TAKEN int dup(int fd)
{
	int (*next)(int) = (int (*)(int))next_of(NEXT_dup);

	return copied(fd, next ? next(fd) : (int)answered(raw(NR_DUP, fd, 0, 0, 0, 0, 0)));
}

TAKEN int dup2(int from, int to)
{
	int (*next)(int, int) = (int (*)(int, int))next_of(NEXT_dup2);

	if (next)
		return copied(from, next(from, to));
	/* dup3 refuses one to itself, dup2 only asks whether it is open. */
	if (from == to)
		return raw_fcntl(from, F_GETFD, 0) < 0 ? (int)answered(raw_fcntl(from, F_GETFD, 0)) : to;
	return copied(from, (int)answered(raw_dup3(from, to, 0)));
}

TAKEN int dup3(int from, int to, int flags)
{
	int (*next)(int, int, int) = (int (*)(int, int, int))next_of(NEXT_dup3);

	return copied(from, next ? next(from, to, flags) : (int)answered(raw_dup3(from, to, flags)));
}

/* The host's is variadic and takes an int, a pointer or nothing: whatever stands in the register is passed on. */
#define FCNTL(name) \
	TAKEN int name(int fd, int command, long argument) \
	{ \
		int (*next)(int, int, ...) = (int (*)(int, int, ...))next_of(NEXT_##name); \
		int result = likely(next) ? next(fd, command, argument) : (int)answered(raw_fcntl(fd, command, argument)); \
		return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copied(fd, result) : result; \
	}

FCNTL(fcntl)
FCNTL(fcntl64)
