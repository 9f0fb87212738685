// SPDX-License-Identifier: Apache-2.0
/* Names of live files. A volume has few, so they are kept for good: one is written once, before its number is told. */
#include "shim.h"

enum { SLOTS = 4096, POOL_BYTES = 1 << 18 };

static uint32_t slots[SLOTS]; /* numbers: where in the pool the name is, plus 1 */
static char pool[POOL_BYTES];
static uint32_t pool_used;

const char *names_text(uint32_t number)
{
	return pool + (number & ~HELD_FOLDER) - 1;
}

static int same(const char *kept, const char *name, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		if (kept[i] != name[i])
			return 0;
	return !kept[bytes];
}

static uint32_t write_down(const char *name, uint32_t bytes)
{
	uint32_t place = __atomic_load_n(&pool_used, __ATOMIC_RELAXED);

	do {
		if (bytes + 1 > POOL_BYTES - place)
			return 0;
	} while (!__atomic_compare_exchange_n(&pool_used, &place, place + bytes + 1, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	for (uint32_t i = 0; i < bytes; i++)
		pool[place + i] = name[i];
	pool[place + bytes] = 0;
	return place + 1;
}

uint32_t names_keep(const char *name, uint32_t bytes)
{
	uint32_t hash = 2166136261u, number = 0;

	for (uint32_t i = 0; i < bytes; i++)
		hash = (hash ^ (unsigned char)name[i]) * 16777619u;
	for (uint32_t tries = 0; tries < 64; tries++) {
		uint32_t *slot = &slots[(hash + tries) % SLOTS], there = __atomic_load_n(slot, __ATOMIC_ACQUIRE);

		if (!there) {
			if (!number && !(number = write_down(name, bytes)))
				return 0;
			if (__atomic_compare_exchange_n(slot, &there, number, 0, __ATOMIC_RELEASE, __ATOMIC_ACQUIRE))
				return number;
		}
		if (same(names_text(there), name, bytes))
			return there;
	}
	return 0;
}
