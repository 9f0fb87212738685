// SPDX-License-Identifier: Apache-2.0
/* Whether a path is ours, by what it means: "//" and "/./" stand for nothing. Most are not, and must cost little. */
#include "shim.h"

enum { PAGE_BYTES = 4096 };

/* Over what stands for nothing between two parts of a path: "/", "/." */
static inline const char *next_part(const char *path)
{
	while (*path == '/' || (*path == '.' && (path[1] == '/' || !path[1])))
		path++;
	return path;
}

/* What is left of `path` below `entry`; NULL if it is not below. */
static const char *below(const char *path, const char *entry)
{
	for (;;) {
		path = next_part(path);
		if (!*entry)
			return path;
		for (entry++; *entry && *entry != '/'; path++, entry++)
			if (*path != *entry)
				return NULL;
		if (*path && *path != '/')
			return NULL;
	}
}

/* Whether something begins there that stands for nothing. */
static inline int is_unplain(const char *path, uint32_t at)
{
	return at && path[at - 1] == '/' &&
	       (path[at] == '/' || (path[at] == '.' && (path[at + 1] == '/' || !path[at + 1])));
}

typedef uint64_t __attribute__((aligned(1), may_alias)) Word;

/* How many bytes of an entry are in the path too. By words, which may reach beyond the path's end, but never into
 * another page; what counts is before the first difference, and so before the end. */
static __attribute__((no_sanitize("address", "thread"))) uint32_t alike_until(const char *path, const char *entry,
									       uint32_t at, uint32_t bytes)
{
	while (at < bytes && likely(((uintptr_t)(path + at) & (PAGE_BYTES - 1)) <= PAGE_BYTES - 8)) {
		uint64_t differs = *(const Word *)(path + at) ^ *(const Word *)(entry + at);

		if (differs && at + (unsigned)__builtin_ctzll(differs) / 8 < bytes)
			return at + (unsigned)__builtin_ctzll(differs) / 8;
		at += 8;
	}
	if (at >= bytes)
		return bytes;
	while (at < bytes && entry[at] == path[at])
		at++;
	return at;
}

HOT const struct entry *paths_match(const char *path, const char **rest)
{
	const struct entry *best = NULL;
	uint32_t alike = 0; /* bytes that are in the path and in the entry before */
	int unplain = 0;

	/* Once over all entries: what an entry shares with the one before is not compared again. */
	for (uint32_t i = 0; i < known.paths.count; i++) {
		const struct entry *entry = &known.entries[i];
		const char *left = NULL;

		/* Otherwise it differs where the one before did. */
		if (entry->shared <= alike) {
			alike = alike_until(path, entry->path, entry->shared, entry->bytes);
			unplain = is_unplain(path, alike);
			if (alike == entry->bytes && (path[alike] == '/' || !path[alike]))
				left = next_part(path + alike);
		}
		if (unlikely(unplain) && !left)
			left = below(path, entry->path);
		/* The longest entry leaves the least. */
		if (left && (!best || left > *rest)) {
			best = entry;
			*rest = left;
		}
	}
	return best;
}

uint32_t paths_join(char *name, const char *base, uint32_t base_bytes, const char *rest)
{
	uint32_t used = base_bytes;
	/* "file/" and "file/." are refused by the kernel where it is no folder: that must stay so. */
	int folder = !*rest && (rest[-1] == '/' || (rest[-1] == '.' && rest[-2] == '/'));

	for (uint32_t i = 0; i < base_bytes; i++)
		name[i] = base[i];
	while (*rest) {
		const char *part = rest;

		name[used++] = '/';
		for (; *rest && *rest != '/'; rest++) {
			if (used >= NAME_BYTES - 2)
				return 0;
			name[used++] = *rest;
		}
		if (part[0] == '.' && part[1] == '.' && rest == part + 2)
			return 0;
		folder = *rest == '/';
		rest = next_part(rest);
	}
	if (folder)
		name[used++] = '/';
	name[used] = 0;
	return used;
}

const char *paths_redirected(const char *path, char *name)
{
	const char *rest;
	const struct entry *entry = paths_of(path, &rest);

	if (!entry || !entry->live || !paths_join(name, entry->live, entry->live_bytes, rest))
		return NULL;
	return name;
}
