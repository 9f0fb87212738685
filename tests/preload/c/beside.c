// SPDX-License-Identifier: Apache-2.0
/* Another library that is preloaded beside the shim: it takes over the same functions, answers for one path itself, and
 * passes the rest on as such libraries do, by dlsym(RTLD_NEXT). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <string.h>

int open(const char *path, int flags, ...)
{
	int (*next)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");

	if ((unsigned long)path > 4096 && !strcmp(path, "/beside")) {
		errno = EXDEV;
		return -1;
	}
	return next(path, flags, 0600);
}

int access(const char *path, int mode)
{
	int (*next)(const char *, int) = (int (*)(const char *, int))dlsym(RTLD_NEXT, "access");

	if ((unsigned long)path > 4096 && !strcmp(path, "/beside")) {
		errno = EXDEV;
		return -1;
	}
	return next(path, mode);
}
