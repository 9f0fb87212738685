// SPDX-License-Identifier: Apache-2.0
/* System calls without a libc: nothing here touches errno, and each returns what the kernel did (a negative errno). */
#ifndef KERNELSECRET_RAW_H
#define KERNELSECRET_RAW_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
enum { NR_CLOSE = 3, NR_FSTAT = 5, NR_LSEEK = 8, NR_RT_SIGPROCMASK = 14, NR_PREAD = 17, NR_SCHED_YIELD = 24,
       NR_DUP = 32, NR_DUP2 = 33, NR_NANOSLEEP = 35, NR_GETPID = 39, NR_FCNTL = 72, NR_GETTID = 186,
       NR_TGKILL = 234, NR_OPENAT = 257, NR_NEWFSTATAT = 262, NR_READLINKAT = 267, NR_FACCESSAT = 269,
       NR_DUP3 = 292, NR_PREADV = 295, NR_PREADV2 = 327, NR_STATX = 332 };
#elif defined(__aarch64__)
enum { NR_DUP = 23, NR_DUP3 = 24, NR_FCNTL = 25, NR_FACCESSAT = 48, NR_OPENAT = 56, NR_CLOSE = 57,
       NR_LSEEK = 62, NR_PREAD = 67, NR_PREADV = 69, NR_READLINKAT = 78, NR_NEWFSTATAT = 79, NR_FSTAT = 80,
       NR_NANOSLEEP = 101, NR_SCHED_YIELD = 124, NR_TGKILL = 131, NR_RT_SIGPROCMASK = 135, NR_GETPID = 172,
       NR_GETTID = 178, NR_PREADV2 = 286, NR_STATX = 291 };
#else
#error "the shim is for x86_64 and aarch64"
#endif
enum { NR_FACCESSAT2 = 439 };

#if defined(__x86_64__)
static inline long raw(long number, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}
#else
static inline long raw(long number, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}
#endif

/* Numbers of the kernel's interface that both architectures and both libcs share. */
enum { AT_FDCWD = -100, AT_SYMLINK_NOFOLLOW = 0x100, AT_EACCESS = 0x200, AT_EMPTY_PATH = 0x1000 };
enum { O_ACCMODE = 3, O_RDONLY = 0, O_CREAT = 0100, O_NOCTTY = 0400, O_TRUNC = 01000, O_APPEND = 02000,
       O_NONBLOCK = 04000, O_NOATIME = 01000000, O_CLOEXEC = 02000000, O_PATH = 010000000 };
#if defined(__x86_64__)
enum { O_DIRECT = 040000, O_DIRECTORY = 0200000, O_NOFOLLOW = 0400000 };
#else
enum { O_DIRECT = 0200000, O_DIRECTORY = 040000, O_NOFOLLOW = 0100000 };
#endif
enum { F_DUPFD = 0, F_GETFD = 1, F_GETFL = 3, F_SETFL = 4, F_DUPFD_CLOEXEC = 1030, FD_CLOEXEC = 1 };
enum { SIG_SETMASK = 2 };
enum { SEEK_SET = 0, SEEK_CUR = 1, SEEK_END = 2 };
enum { ENOENT = 2, ESRCH = 3, EACCES = 13, ENOTDIR = 20, ENFILE = 23, EMFILE = 24, ENAMETOOLONG = 36, ENOSYS = 38, ELOOP = 40 };
enum { S_IFMT = 0170000, S_IFDIR = 0040000, S_IFREG = 0100000, W_OK = 2, F_OK = 0 };

/* The kernel's struct stat, which is also that of glibc and musl here. */
struct file_state {
	uint64_t dev;
	uint64_t ino;
#if defined(__x86_64__)
	uint64_t links;
	uint32_t mode;
	uint32_t user, group, pad;
	uint64_t rdev;
#else
	uint32_t mode;
	uint32_t links;
	uint32_t user, group;
	uint64_t rdev, pad;
#endif
	int64_t size;
	char rest[144 - 56];
};

static inline long raw_openat(int dirfd, const char *path, int flags)
{
	return raw(NR_OPENAT, dirfd, (long)path, flags, 0, 0, 0);
}

static inline long raw_close(int fd)
{
	return raw(NR_CLOSE, fd, 0, 0, 0, 0, 0);
}

static inline long raw_fstat(int fd, struct file_state *state)
{
	return raw(NR_FSTAT, fd, (long)state, 0, 0, 0, 0);
}

static inline long raw_statat(int dirfd, const char *path, void *state, int flags)
{
	return raw(NR_NEWFSTATAT, dirfd, (long)path, (long)state, flags, 0, 0);
}

static inline long raw_fcntl(int fd, int command, long argument)
{
	return raw(NR_FCNTL, fd, command, argument, 0, 0, 0);
}

static inline long raw_dup3(int from, int to, int flags)
{
	return raw(NR_DUP3, from, to, flags, 0, 0, 0);
}

static inline long raw_lseek(int fd, int64_t offset, int whence)
{
	return raw(NR_LSEEK, fd, offset, whence, 0, 0, 0);
}

#endif
