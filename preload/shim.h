// SPDX-License-Identifier: Apache-2.0
/* What the shim's files share. It is preloaded into programs of any libc, so it has no libc of its own: system calls
 * are in raw.h, and of the host's libc it takes only what is declared here, by names without versions. It allocates
 * nothing, takes no lock, has no thread-local storage, and changes errno only as the calls that it stands for do. */
#ifndef KERNELSECRET_SHIM_H
#define KERNELSECRET_SHIM_H

#include "raw.h"

#define HOT __attribute__((hot))
#define TAKEN __attribute__((visibility("default"), hot))
#define SLOW __attribute__((noinline, cold))
#define unlikely(x) __builtin_expect(!!(x), 0)
#define likely(x) __builtin_expect(!!(x), 1)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Longest name of a live file that is followed, its end included. Names are built on the caller's stack, which may be
 * a signal handler's. */
enum { NAME_BYTES = 512 };

/* --- next.c: the definition of a function that would be called if the shim were not there */

#define FUNCTIONS(X) \
	X(open) X(open64) X(openat) X(openat64) X(__open_2) X(__open64_2) X(__openat_2) X(__openat64_2) \
	X(opendir) X(closedir) X(dirfd) X(scandir) X(scandir64) \
	X(fopen) X(fopen64) X(fclose) X(freopen) X(freopen64) X(fileno) X(fflush) X(ftello) X(flockfile) X(funlockfile) \
	X(fseek) X(fseeko) X(fseeko64) X(rewind) X(fsetpos) X(fsetpos64) \
	X(stat) X(stat64) X(lstat) X(lstat64) X(fstatat) X(fstatat64) X(statx) \
	X(__xstat) X(__xstat64) X(__lxstat) X(__lxstat64) X(__fxstatat) X(__fxstatat64) \
	X(access) X(faccessat) X(euidaccess) X(eaccess) X(syscall) \
	X(lseek) X(lseek64) X(llseek) \
	X(pread) X(pread64) X(__pread_chk) X(__pread64_chk) X(preadv) X(preadv64) X(preadv2) X(preadv64v2) \
	X(dup) X(dup2) X(dup3) X(fcntl) X(fcntl64)

#define FUNCTION_NUMBER(name) NEXT_##name,
enum function { FUNCTIONS(FUNCTION_NUMBER) FUNCTION_COUNT };

typedef void any_function(void);

/* --- What every call looks at, on one page of memory: after a system call, each other page costs as much as the rest */

enum { MOST_ENTRIES = 64 };

struct entry {
	const char *path;    /* absolute, plain, without a slash at its end */
	const char *live;    /* where it is found instead; NULL for what is live itself */
	uint32_t live_bytes; /* strlen(live), or of path */
	uint32_t bytes;      /* strlen(path) */
	uint32_t shared;     /* bytes at its beginning that the entry before has too */
};

/* All that a call which is not ours needs to know of them, in one line of the cache. */
struct paths {
	uint32_t state; /* 0 not read, 1 being read, 2 there */
	uint32_t count;
	uint32_t has_overlay;
	uint32_t begins[8]; /* a bit for each second byte of a path with which an entry may begin */
} __attribute__((aligned(64)));

extern struct known {
	struct paths paths;
	any_function *next[FUNCTION_COUNT];
	struct entry entries[MOST_ENTRIES];
} __attribute__((aligned(4096))) known;

_Static_assert(sizeof(struct known) == 4096, "one page");

/* Finds it, and keeps it for the next time; NULL where no other object has it. Any thread, any signal handler. */
any_function *next_find(enum function function);

static inline any_function *next_of(enum function function)
{
	any_function *found = __atomic_load_n(&known.next[function], __ATOMIC_RELAXED);

	return likely(found) ? found : next_find(function);
}

/* Finds all of them, so that none is looked for later, where a lock of the loader could be held by another thread. */
void next_find_all(void);

/* --- errno, which is the host's */

int *__errno_location(void) __attribute__((weak));

static inline int errno_get(void)
{
	return &__errno_location ? *__errno_location() : 0;
}

static inline void errno_set(int value)
{
	if (&__errno_location)
		*__errno_location() = value;
}

/* What a libc makes of what the kernel returned. */
static inline long answered(long result)
{
	if (likely(result >= 0))
		return result;
	errno_set((int)-result);
	return -1;
}

/* Whether a call that failed had read its path all the same, so that the path may be read here. */
static inline int path_was_read(int error)
{
	return error == ENOENT || error == ENOTDIR || error == EACCES || error == ELOOP;
}

/* --- paths.c, match.c: which paths are live, and where others are found (KERNELSECRET_SHIM_PATHS) */

/* Reads the variable, once. Whether it has been read. */
int paths_read(void);

static inline int paths_ready(void)
{
	return likely(__atomic_load_n(&known.paths.state, __ATOMIC_ACQUIRE) == 2) || paths_read();
}

/* Whether that is what a call says where nothing is in LIVE. Whatever else it says is its answer: the program's own file
 * is not taken for one that is there. */
static inline int is_absent(int error)
{
	return error == ENOENT || error == ENOTDIR || error == ENAMETOOLONG;
}

/* What a call gives back to errno if LIVE's answer is taken after the first one has failed. */
static inline int errno_kept(void)
{
	return paths_ready() && known.paths.has_overlay ? errno_get() : 0;
}

/* The entry that a readable absolute path is of or below (the longest), and in `rest` what comes after it. */
const struct entry *paths_match(const char *path, const char **rest);

/* The same, for what is mostly not ours. */
static inline const struct entry *paths_of(const char *path, const char **rest)
{
	unsigned char second;

	if (!known.paths.count || path[0] != '/')
		return NULL;
	second = (unsigned char)path[1];
	if (!(known.paths.begins[second / 32] >> (second % 32) & 1))
		return NULL;
	return paths_match(path, rest);
}

/* Writes BASE/REST, plain, into `name`. Its length; 0 where it is too long or has '..', which only the kernel can tell. */
uint32_t paths_join(char *name, const char *base, uint32_t base_bytes, const char *rest);

/* For calls that only look: the path in LIVE that this one is found at, in `name`; NULL where it is not redirected. */
const char *paths_redirected(const char *path, char *name);

/* --- names.c: names of live files, kept for good */

/* The same number for the same name; 0 where there is no room. */
uint32_t names_keep(const char *name, uint32_t bytes);
const char *names_text(uint32_t number);

/* --- held.c: descriptors of live files */

#ifndef HELD_MOST /* a test has a smaller table */
#define HELD_MOST 65536
#endif

enum { HELD_FOLDER = 1u << 31 };

struct identity {
	uint64_t dev, ino;
};

struct held {
	uint32_t name;  /* 0: none. With HELD_FOLDER: a folder, only for names below it. */
	uint32_t swaps; /* the thread that is swapping it, or 0 */
	/* The file that it shows is one of these. A swap writes the other one first, so that at no instant the descriptor
	 * shows a file that is not here; nor in a child, unless more than one swap falls into the fork itself. */
	struct identity shows[2];
};

extern struct held held[HELD_MOST];

static inline uint32_t held_name(int fd)
{
	return likely((unsigned)fd < HELD_MOST) ? __atomic_load_n(&held[fd].name, __ATOMIC_RELAXED) : 0;
}

enum moment { REWOUND, ONLY_AT_AN_END };

void held_track(int fd, const char *name, uint32_t bytes);
void held_copy(int from, int to);

/* What is new at a number is seen here, though not what was closed. */
static inline void held_forget(int fd)
{
	if (unlikely(held_name(fd)))
		__atomic_store_n(&held[fd].name, 0, __ATOMIC_RELEASE);
}

/* Whether the descriptor shows an older file than its name does now. */
int held_is_old(int fd);
/* Lets the descriptor show the file that its name shows now; in mid-file it stays, unless it was rewound. */
void held_renew(int fd, enum moment moment);
/* The name of the folder that a descriptor is open at; 0 where that is none of ours. */
uint32_t held_folder(int fd);

/* --- open.c, also for streams */

/* For what a stream has opened of the program's own: puts the live file at its number, where one is there. Whether that
 * is done, or nothing to do; if not, the live file is to be opened in place of this one. */
int opened_beside(int fd, const char *path, int flags);

int opened(int fd, int dirfd, const char *path, int flags, int errno_before);

#endif
