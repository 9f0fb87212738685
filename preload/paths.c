// SPDX-License-Identifier: Apache-2.0
/* Which paths are ours. KERNELSECRET_SHIM_PATHS has entries with ':' between them: PATH is live itself, and PATH=LIVE is
 * found at LIVE. It is read once and copied, since a program may write over its environment. */
#include "shim.h"

extern char **environ __attribute__((weak));

static const char VARIABLE[] = "KERNELSECRET_SHIM_PATHS=";

enum { POOL_BYTES = 32768, NOT_READ = 0, BEING_READ = 1, THERE = 2 };

static char pool[POOL_BYTES + 8]; /* entries are read by words */
static uint32_t pool_used;

/* Bytes of a path from `text` on, which ends at `end`: absolute, without empty parts, '.' or '..'; 0 if it is not so. */
static uint32_t plain(const char *text, const char *end)
{
	const char *part = text;

	while (end > text + 1 && end[-1] == '/')
		end--;
	if (end - text < 2 || end - text >= NAME_BYTES || *text != '/')
		return 0;
	while (part < end) {
		const char *next = ++part;

		while (next < end && *next != '/')
			next++;
		if (next == part || (part[0] == '.' && (next == part + 1 || (next == part + 2 && part[1] == '.'))))
			return 0;
		part = next;
	}
	return (uint32_t)(end - text);
}

static const char *keep(const char *text, uint32_t bytes)
{
	char *kept = pool + pool_used;

	if (bytes >= POOL_BYTES - pool_used)
		return NULL;
	for (uint32_t i = 0; i < bytes; i++)
		kept[i] = text[i];
	kept[bytes] = 0;
	pool_used += bytes + 1;
	return kept;
}

static void may_begin(char second)
{
	known.paths.begins[(unsigned char)second / 32] |= 1u << ((unsigned char)second % 32);
}

static void add(const char *path, uint32_t path_bytes, const char *live, uint32_t live_bytes)
{
	struct entry *entry = &known.entries[known.paths.count];

	if (known.paths.count == MOST_ENTRIES || !path_bytes || !(path = keep(path, path_bytes)))
		return;
	entry->path = path;
	entry->live = NULL;
	entry->live_bytes = path_bytes;
	if (live && !(entry->live = keep(live, live_bytes)))
		return;
	if (live) {
		entry->live_bytes = live_bytes;
		known.paths.has_overlay = 1;
	}
	entry->bytes = path_bytes;
	entry->shared = 0;
	while (known.paths.count && path[entry->shared] && path[entry->shared] == entry[-1].path[entry->shared])
		entry->shared++;
	may_begin(path[1]);
	known.paths.count++;
}

/* The same folder by its real name: /var/run is a link in most images, and some programs resolve it first. */
static void add_real(const char *path)
{
	char link[24] = "/proc/self/fd/", real[NAME_BYTES];
	long fd = raw_openat(AT_FDCWD, path, O_PATH | O_CLOEXEC), bytes;
	unsigned end = 14, digits = 1;

	if (fd < 0)
		return;
	for (long rest = fd; rest >= 10; rest /= 10)
		digits++;
	link[end + digits] = 0;
	for (long rest = fd; digits--; rest /= 10)
		link[end + digits] = (char)('0' + rest % 10);
	bytes = raw(NR_READLINKAT, AT_FDCWD, (long)link, (long)real, sizeof(real), 0, 0);
	raw_close((int)fd);
	if (bytes > 0 && bytes < NAME_BYTES && plain(real, real + bytes) == bytes) {
		const char *rest;
		const struct entry *same;

		real[bytes] = 0;
		same = paths_of(real, &rest);
		if (!same || *rest)
			add(real, (uint32_t)bytes, NULL, 0);
	}
}

static void read_entry(const char *text, const char *end)
{
	const char *sign = text;

	while (sign < end && *sign != '=')
		sign++;
	if (sign == end) {
		uint32_t bytes = plain(text, end), before = known.paths.count;

		add(text, bytes, NULL, 0);
		if (known.paths.count > before)
			add_real(known.entries[before].path);
		return;
	}
	for (const char *more = sign + 1; more < end; more++)
		if (*more == '=')
			return;
	uint32_t live_bytes = plain(sign + 1, end);
	if (live_bytes)
		add(text, plain(text, sign), sign + 1, live_bytes);
}

SLOW int paths_read(void)
{
	uint32_t state = NOT_READ;
	const char *value = NULL;

	/* Before the libc has set itself up there is no environment yet: the next call looks again. While another
	 * thread reads it, or this one in what a signal interrupted, nothing is ours: it is not waited for. */
	if (!&environ || !environ)
		return 0;
	if (!__atomic_compare_exchange_n(&known.paths.state, &state, BEING_READ, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return state == THERE;
	may_begin('/');
	may_begin('.');
	for (char **one = environ; *one && !value; one++) {
		unsigned i = 0;

		while (VARIABLE[i] && (*one)[i] == VARIABLE[i])
			i++;
		if (!VARIABLE[i])
			value = *one + i;
	}
	while (value && *value) {
		const char *end = value;

		while (*end && *end != ':')
			end++;
		read_entry(value, end);
		value = *end ? end + 1 : end;
	}
	__atomic_store_n(&known.paths.state, THERE, __ATOMIC_RELEASE);
	return 1;
}
