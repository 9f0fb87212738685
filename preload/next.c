// SPDX-License-Identifier: Apache-2.0
/* Finds what the shim stands before: walks the objects that are loaded, in the order in which they are searched, and
 * looks a name up in each after the shim. By the ELF tables, since dlsym takes locks, allocates, and has other versions
 * in other libcs. */
#include "shim.h"

typedef struct {
	uint32_t name;
	unsigned char info, other;
	uint16_t section;
	uint64_t value, size;
} Symbol;

typedef struct {
	uint32_t type, flags;
	uint64_t offset, address, physical, file_bytes, memory_bytes, align;
} Segment;

typedef struct {
	int64_t tag;
	uint64_t value;
} Dynamic;

/* The first fields of dl_iterate_phdr's; both libcs have had them since before the ones we are for. */
struct object {
	uint64_t base;
	const char *name;
	const Segment *segments;
	uint16_t segment_count;
};

int dl_iterate_phdr(int (*each)(struct object *, size_t, void *), void *argument) __attribute__((weak));

enum { PT_LOAD = 1, PT_DYNAMIC = 2, STT_FUNC = 2, VERSION_HIDDEN = 0x8000 };
enum { DT_HASH = 4, DT_STRTAB = 5, DT_SYMTAB = 6, DT_GNU_HASH = 0x6ffffef5, DT_VERSYM = 0x6ffffff0 };

struct tables {
	uint64_t base;
	const Symbol *symbols;
	const char *strings;
	const uint32_t *gnu, *sysv;
	const uint16_t *versions;
};

struct search {
	const char *name;
	uint32_t gnu, sysv;
	int after;             /* the shim itself has been passed */
	any_function *found;   /* the default version */
	any_function *hidden;  /* one that is left for old programs, as glibc's __xstat is */
};

#define FUNCTION_NAME(name) #name,
static const char *const function_names[FUNCTION_COUNT] = { FUNCTIONS(FUNCTION_NAME) };

struct known known;
static uint8_t missing[FUNCTION_COUNT];

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

/* glibc relocates these addresses where they stand, musl and the vDSO do not. */
static const void *at(uint64_t base, uint64_t address)
{
	return (const void *)(address < base ? base + address : address);
}

static int tables_of(const struct object *object, struct tables *tables)
{
	const Dynamic *dynamic = NULL;

	for (unsigned i = 0; i < object->segment_count; i++)
		if (object->segments[i].type == PT_DYNAMIC)
			dynamic = (const Dynamic *)(object->base + object->segments[i].address);
	*tables = (struct tables){ .base = object->base };
	for (; dynamic && dynamic->tag; dynamic++) {
		const void *there = at(object->base, dynamic->value);

		switch (dynamic->tag) {
		case DT_HASH: tables->sysv = there; break;
		case DT_GNU_HASH: tables->gnu = there; break;
		case DT_SYMTAB: tables->symbols = there; break;
		case DT_STRTAB: tables->strings = there; break;
		case DT_VERSYM: tables->versions = there; break;
		}
	}
	return tables->symbols && tables->strings && (tables->gnu || tables->sysv);
}

static void consider(const struct tables *tables, uint32_t number, struct search *search)
{
	const Symbol *symbol = &tables->symbols[number];

	/* An undefined one may have a value: where a program took its address. */
	if (!symbol->section || !symbol->value || (symbol->info & 15) != STT_FUNC)
		return;
	if (!same(tables->strings + symbol->name, search->name))
		return;
	any_function *there = (any_function *)(tables->base + symbol->value);
	if (tables->versions && (tables->versions[number] & VERSION_HIDDEN)) {
		if (!search->hidden)
			search->hidden = there;
	} else if (!search->found) {
		search->found = there;
	}
}

static void look_gnu(const struct tables *tables, struct search *search)
{
	uint32_t buckets = tables->gnu[0], first = tables->gnu[1], words = tables->gnu[2], shift = tables->gnu[3];
	const uint64_t *bloom = (const uint64_t *)(tables->gnu + 4);
	const uint32_t *bucket = (const uint32_t *)(bloom + words), *chain = bucket + buckets;

	if (!buckets || !words)
		return;
	uint64_t word = bloom[(search->gnu / 64) & (words - 1)];
	if (!((word >> (search->gnu & 63)) & (word >> ((search->gnu >> shift) & 63)) & 1))
		return;
	uint32_t number = bucket[search->gnu % buckets];
	if (number < first)
		return;
	for (;; number++) {
		uint32_t hash = chain[number - first];

		if ((hash | 1) == (search->gnu | 1))
			consider(tables, number, search);
		if (hash & 1)
			return;
	}
}

static void look_sysv(const struct tables *tables, struct search *search)
{
	uint32_t buckets = tables->sysv[0];
	const uint32_t *bucket = tables->sysv + 2, *chain = bucket + buckets;

	if (!buckets)
		return;
	for (uint32_t number = bucket[search->sysv % buckets]; number; number = chain[number])
		consider(tables, number, search);
}

static int is_the_shim(const struct object *object)
{
	uint64_t here = (uint64_t)&known;

	for (unsigned i = 0; i < object->segment_count; i++) {
		const Segment *segment = &object->segments[i];

		if (segment->type == PT_LOAD && here - object->base - segment->address < segment->memory_bytes)
			return 1;
	}
	return 0;
}

static int look_in(struct object *object, size_t bytes, void *argument)
{
	struct search *search = argument;
	struct tables tables;

	(void)bytes;
	if (!search->after) {
		search->after = is_the_shim(object);
		return 0;
	}
	if (!tables_of(object, &tables))
		return 0;
	if (tables.gnu)
		look_gnu(&tables, search);
	else
		look_sysv(&tables, search);
	return search->found || search->hidden;
}

SLOW any_function *next_find(enum function function)
{
	const char *name = function_names[function];
	struct search search = { .name = name, .gnu = 5381 };

	if (__atomic_load_n(&missing[function], __ATOMIC_RELAXED) || !&dl_iterate_phdr)
		return NULL;
	for (const unsigned char *c = (const unsigned char *)name; *c; c++) {
		search.gnu = search.gnu * 33 + *c;
		search.sysv = (search.sysv << 4) + *c;
		search.sysv = (search.sysv ^ ((search.sysv >> 24) & 0xf0)) & 0x0fffffff;
	}
	dl_iterate_phdr(look_in, &search);
	any_function *found = search.found ? search.found : search.hidden;
	if (found)
		__atomic_store_n(&known.next[function], found, __ATOMIC_RELAXED);
	else
		__atomic_store_n(&missing[function], 1, __ATOMIC_RELAXED);
	return found;
}

void next_find_all(void)
{
	for (unsigned i = 0; i < FUNCTION_COUNT; i++)
		next_of(i);
}
