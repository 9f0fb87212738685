// SPDX-License-Identifier: Apache-2.0
/* Streams. A libc seeks within a stream's buffer where it can, so before a descriptor is swapped the buffer must go:
 * fflush() of a stream that reads does that in both libcs. */
#include "shim.h"

typedef struct stream Stream;

#define OF(name, type) ((type)next_of(NEXT_##name))

/* What a mode opens with, as far as it matters here: -1 where the stream may write, or reads by mmap ('m' of glibc). */
static int flags_of(const char *mode)
{
	int flags = O_RDONLY;

	if (*mode != 'r')
		return -1;
	for (mode++; *mode && *mode != ','; mode++) {
		if (*mode == '+' || *mode == 'm')
			return -1;
		if (*mode == 'e')
			flags |= O_CLOEXEC;
	}
	return flags;
}

/* Whether it shows what is there now; if not, LIVE has a file that could not be put in the place of this one. */
static int stream_opened(Stream *stream, const char *path, const char *mode)
{
	int (*number)(Stream *) = OF(fileno, int (*)(Stream *));
	int fd = number ? number(stream) : -1, flags = flags_of(mode);

	return fd < 0 || flags < 0 || opened_beside(fd, path, flags);
}

/* A file that is there only in LIVE, as far as the host's fopen could open one; that has failed. */
static SLOW Stream *opened_there(Stream *(*next)(const char *, const char *), const char *path, const char *mode,
				 int errno_before)
{
	int error = errno_get();
	char name[NAME_BYTES];

	if (!path_was_read(error) || !paths_ready() || !known.paths.has_overlay || flags_of(mode) < 0 ||
	    !paths_redirected(path, name))
		return NULL;
	Stream *stream = next(name, mode);
	if (stream || is_absent(errno_get()))
		errno_set(stream ? errno_before : error);
	int (*number)(Stream *) = OF(fileno, int (*)(Stream *));
	if (stream && number) {
		uint32_t bytes = 0;

		while (name[bytes])
			bytes++;
		held_track(number(stream), name, bytes);
	}
	return stream;
}

#define FOPEN(name) \
	TAKEN Stream *name(const char *path, const char *mode) \
	{ \
		int before = errno_kept(); \
		Stream *(*next)(const char *, const char *) = OF(name, Stream * (*)(const char *, const char *)); \
		if (unlikely(!next)) { \
			answered(-ENOSYS); \
			return NULL; \
		} \
		Stream *stream = next(path, mode); \
		if (stream) { \
			if (likely(stream_opened(stream, path, mode))) \
				return stream; \
			stream_closed(stream); \
		} \
		return opened_there(next, path, mode, before); \
	}

/* Its number may be all that was wanting. */
static SLOW void stream_closed(Stream *stream)
{
	int (*close)(Stream *) = OF(fclose, int (*)(Stream *));

	if (close)
		close(stream);
	errno_set(ENOENT);
}

/* A stream that could not be opened again is closed and, in musl, freed: so the path is chosen before. */
#define FREOPEN(name) \
	TAKEN Stream *name(const char *path, const char *mode, Stream *stream) \
	{ \
		Stream *(*next)(const char *, const char *, Stream *) = \
			OF(name, Stream * (*)(const char *, const char *, Stream *)); \
		if (unlikely(!next)) { \
			answered(-ENOSYS); \
			return NULL; \
		} \
		return reopened(next, path, mode, stream); \
	}

static Stream *reopened(Stream *(*next)(const char *, const char *, Stream *), const char *path, const char *mode,
			Stream *stream)
{
	char name[NAME_BYTES];
	const char *there = NULL;

	if (path && paths_ready() && known.paths.has_overlay && flags_of(mode) >= 0) {
		long result = raw(NR_FACCESSAT, AT_FDCWD, (long)path, F_OK, 0, 0, 0);

		if (!result || path_was_read((int)-result))
			there = paths_redirected(path, name);
		if (there && raw(NR_FACCESSAT, AT_FDCWD, (long)there, F_OK, 0, 0, 0))
			there = NULL;
	}
	stream = next(there ? there : path, mode, stream);
	if (path && stream)
		stream_opened(stream, there ? there : path, mode);
	return stream;
}

FOPEN(fopen)
FOPEN(fopen64)
FREOPEN(freopen)
FREOPEN(freopen64)

/* Lets the stream show the file that is there now. The host's seek comes after it, whatever this one did. */
static SLOW void stream_renew(Stream *stream, int fd, enum moment moment)
{
	void (*lock)(Stream *) = OF(flockfile, void (*)(Stream *));
	void (*unlock)(Stream *) = OF(funlockfile, void (*)(Stream *));
	int (*flush)(Stream *) = OF(fflush, int (*)(Stream *));
	int64_t (*tell)(Stream *) = OF(ftello, int64_t (*)(Stream *));
	int before = errno_get();
	struct file_state state;

	if (!lock || !unlock || !flush || !tell || !held_is_old(fd))
		return;
	lock(stream);
	int64_t place = moment == ONLY_AT_AN_END ? tell(stream) : 0;
	/* Its own place counts: the descriptor's is further on, by what is in the buffer. */
	if (place <= 0 || (!raw_fstat(fd, &state) && place >= state.size)) {
		flush(stream);
		held_renew(fd, REWOUND);
	}
	unlock(stream);
	errno_set(before);
}

static inline void before_seek(Stream *stream, int64_t offset, int whence)
{
	int (*number)(Stream *) = OF(fileno, int (*)(Stream *));
	int before, fd;

	if (offset || (whence != SEEK_SET && whence != SEEK_END) || !number)
		return;
	before = errno_get();
	if ((fd = number(stream)) < 0)
		errno_set(before);
	else if (unlikely(held_name(fd)))
		stream_renew(stream, fd, whence == SEEK_SET ? REWOUND : ONLY_AT_AN_END);
}

#define FSEEK(name, type) \
	TAKEN int name(Stream *stream, type offset, int whence) \
	{ \
		int (*next)(Stream *, type, int) = OF(name, int (*)(Stream *, type, int)); \
		before_seek(stream, offset, whence); \
		return next ? next(stream, offset, whence) : (int)answered(-ENOSYS); \
	}
/* Both libcs have the place in the first eight bytes. */
#define FSETPOS(name) \
	TAKEN int name(Stream *stream, const int64_t *place) \
	{ \
		int (*next)(Stream *, const int64_t *) = OF(name, int (*)(Stream *, const int64_t *)); \
		before_seek(stream, *place, SEEK_SET); \
		return next ? next(stream, place) : (int)answered(-ENOSYS); \
	}

FSEEK(fseek, long)
FSEEK(fseeko, int64_t)
FSEEK(fseeko64, int64_t)
FSETPOS(fsetpos)
FSETPOS(fsetpos64)

TAKEN void rewind(Stream *stream)
{
	void (*next)(Stream *) = OF(rewind, void (*)(Stream *));

	before_seek(stream, 0, SEEK_SET);
	if (next)
		next(stream);
}
