"""Describes the libbpf binding to cffi; the build hook compiles it into `agent/kernel/_libbpf`.

API mode: the C compiler checks every declaration below against libbpf's own headers, so none can drift.
"""

from __future__ import annotations

from cffi import FFI

ffibuilder = FFI()

ffibuilder.cdef("""
struct bpf_object; struct bpf_map; struct bpf_program; struct bpf_link; struct ring_buffer; struct btf;

struct bpf_object *ks_object_open(const char *path, const char *pin_root);
int bpf_object__load(struct bpf_object *obj);
void bpf_object__close(struct bpf_object *obj);
int ks_set_constant(struct bpf_object *obj, const char *name, const void *data, uint32_t size);
int ks_map_fd(const struct bpf_object *obj, const char *name);
int ks_program_fd(const struct bpf_object *obj, const char *name);
struct bpf_link *ks_attach(struct bpf_object *obj, const char *name);
int bpf_link__pin(struct bpf_link *link, const char *path);
int bpf_link__destroy(struct bpf_link *link);
const char *ks_log(void);
void ks_log_clear(void);

int ks_map_create(const char *type, const char *name, uint32_t key, uint32_t value, uint32_t entries);
int ks_element_size(int fd, const char *name);
int ks_iter_link(int program_fd, int map_fd);
int ks_link_replace(int link_fd, int program_fd);
int ks_obj_pin(int fd, const char *path);
int ks_obj_get(const char *path);
int ks_map_update(int fd, const void *key, const void *value, uint64_t flags);
int ks_map_lookup(int fd, const void *key, void *value);
int ks_map_delete(int fd, const void *key);
int ks_map_next_key(int fd, const void *key, void *next);
int ks_map_update_batch(int fd, const void *keys, const void *values, uint32_t *count, uint64_t element_flags);
int ks_map_delete_batch(int fd, const void *keys, uint32_t *count);

struct ks_ring;
struct ks_ring *ks_ring_open(int map_fd, uint32_t record_bytes, uint32_t capacity);
int ks_ring_fd(struct ks_ring *ring);
int ks_ring_drain(struct ks_ring *ring, void *records);
void ks_ring_close(struct ks_ring *ring);

struct btf *ks_btf_open(const char *path);
void btf__free(struct btf *btf);
int ks_btf_struct(const struct btf *btf, const char *name, uint32_t *size, uint32_t *members);
const char *ks_btf_member(const struct btf *btf, int type, uint32_t index, uint32_t *bit_offset, int64_t *size);
int ks_btf_enum(const struct btf *btf, const char *name, uint32_t *members);
const char *ks_btf_enumerator(const struct btf *btf, int type, uint32_t index, int64_t *value);
""")

SOURCE = r"""
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

/* libbpf's complaints, kept instead of printed: the caller shows them when a load fails. */
static char log_text[16384];
static size_t log_used;

static int keep_log(enum libbpf_print_level level, const char *format, va_list args)
{
	int n;
	if (level == LIBBPF_DEBUG)
		return 0;
	n = vsnprintf(log_text + log_used, sizeof(log_text) - log_used, format, args);
	if (n > 0)
		log_used += (size_t)n < sizeof(log_text) - log_used ? (size_t)n : sizeof(log_text) - log_used - 1;
	return 0;
}
static const char *ks_log(void) { return log_text; }
static void ks_log_clear(void) { log_used = 0; log_text[0] = 0; }

/* Every int below is >= 0, or a negative errno. */
static int checked(int r) { return r < 0 ? -errno : r; }

static struct bpf_object *ks_object_open(const char *path, const char *pin_root)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .pin_root_path = pin_root);
	libbpf_set_print(keep_log);
	return bpf_object__open_file(path, &opts);
}

/* Constants (`const volatile` in the programs) live in .rodata; BTF says where. */
static int ks_set_constant(struct bpf_object *obj, const char *name, const void *data, uint32_t size)
{
	const struct btf *btf = bpf_object__btf(obj);
	int section = btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC);
	const struct btf_var_secinfo *variable;
	struct bpf_map *map;
	size_t total = 0;
	char *memory;
	int i;

	if (section < 0)
		return section;
	bpf_object__for_each_map(map, obj) {
		if (!strstr(bpf_map__name(map), ".rodata"))
			continue;
		memory = (char *)bpf_map__initial_value(map, &total);
		variable = btf_var_secinfos(btf__type_by_id(btf, section));
		for (i = 0; i < btf_vlen(btf__type_by_id(btf, section)); i++, variable++) {
			const char *found = btf__name_by_offset(btf, btf__type_by_id(btf, variable->type)->name_off);
			if (strcmp(found, name))
				continue;
			if (!memory || variable->size != size || variable->offset + size > total)
				return -ERANGE;
			memcpy(memory + variable->offset, data, size);
			return 0;
		}
	}
	return -ENOENT;
}

static int ks_map_fd(const struct bpf_object *obj, const char *name)
{
	struct bpf_map *map = bpf_object__find_map_by_name(obj, name);
	return map ? bpf_map__fd(map) : -ENOENT;
}

static int ks_program_fd(const struct bpf_object *obj, const char *name)
{
	struct bpf_program *program = bpf_object__find_program_by_name(obj, name);
	return program ? bpf_program__fd(program) : -ENOENT;
}

static struct bpf_link *ks_attach(struct bpf_object *obj, const char *name)
{
	struct bpf_program *program = bpf_object__find_program_by_name(obj, name);
	return program ? bpf_program__attach_trace(program) : NULL;
}

static int ks_map_create(const char *type, const char *name, uint32_t key, uint32_t value, uint32_t entries)
{
	enum bpf_map_type kind = strcmp(type, "hash") ? BPF_MAP_TYPE_ARRAY : BPF_MAP_TYPE_HASH;
	return checked(bpf_map_create(kind, name, key, value, entries, NULL));
}

/* Bytes of the one element of an array that has this name; 0: what is open is another object. */
static int ks_element_size(int fd, const char *name)
{
	struct bpf_map_info info = {0};
	uint32_t size = sizeof(info);
	int r = bpf_obj_get_info_by_fd(fd, &info, &size);

	if (r < 0)
		return -errno;
	if (info.type != BPF_MAP_TYPE_ARRAY || info.max_entries != 1 || strcmp(info.name, name))
		return 0;
	return (int)info.value_size;
}

static int ks_iter_link(int program_fd, int map_fd)
{
	union bpf_iter_link_info info = {.map = {.map_fd = (uint32_t)map_fd}};
	LIBBPF_OPTS(bpf_link_create_opts, opts, .iter_info = &info, .iter_info_len = sizeof(info));
	return checked(bpf_link_create(program_fd, 0, BPF_TRACE_ITER, &opts));
}

static int ks_link_replace(int link_fd, int program_fd) { return checked(bpf_link_update(link_fd, program_fd, NULL)); }
static int ks_obj_pin(int fd, const char *path) { return checked(bpf_obj_pin(fd, path)); }
static int ks_obj_get(const char *path) { return checked(bpf_obj_get(path)); }
static int ks_map_update(int fd, const void *k, const void *v, uint64_t flags)
{
	return checked(bpf_map_update_elem(fd, k, v, flags));
}
static int ks_map_lookup(int fd, const void *k, void *v) { return checked(bpf_map_lookup_elem(fd, k, v)); }
static int ks_map_delete(int fd, const void *k) { return checked(bpf_map_delete_elem(fd, k)); }
static int ks_map_next_key(int fd, const void *k, void *n) { return checked(bpf_map_get_next_key(fd, k, n)); }

static int ks_map_update_batch(int fd, const void *keys, const void *values, uint32_t *count, uint64_t element_flags)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts, .elem_flags = element_flags);
	return checked(bpf_map_update_batch(fd, keys, values, count, &opts));
}

static int ks_map_delete_batch(int fd, const void *keys, uint32_t *count)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts);
	return checked(bpf_map_delete_batch(fd, keys, count, &opts));
}

/* The ring buffer: the copy is made here, so that a burst of events costs Python one call. */
struct ks_ring { struct ring_buffer *buffer; uint32_t record, capacity, used; char *into; };

static int copy_record(void *context, void *data, size_t size)
{
	struct ks_ring *ring = context;
	if (size >= ring->record)
		memcpy(ring->into + (size_t)ring->used++ * ring->record, data, ring->record);
	return ring->used == ring->capacity ? -ENOSPC : 0;
}

static struct ks_ring *ks_ring_open(int map_fd, uint32_t record, uint32_t capacity)
{
	struct ks_ring *ring = calloc(1, sizeof(*ring));
	if (!ring)
		return NULL;
	ring->record = record;
	ring->capacity = capacity;
	ring->buffer = ring_buffer__new(map_fd, copy_record, ring, NULL);
	if (!ring->buffer) {
		free(ring);
		return NULL;
	}
	return ring;
}
static int ks_ring_fd(struct ks_ring *ring) { return ring_buffer__epoll_fd(ring->buffer); }
static int ks_ring_drain(struct ks_ring *ring, void *records)
{
	int r;
	ring->into = records;
	ring->used = 0;
	r = ring_buffer__consume(ring->buffer);
	return ring->used || r >= 0 || r == -ENOSPC ? (int)ring->used : r;
}
static void ks_ring_close(struct ks_ring *ring) { ring_buffer__free(ring->buffer); free(ring); }

static struct btf *ks_btf_open(const char *path) { return btf__parse(path, NULL); }

static int ks_btf_struct(const struct btf *btf, const char *name, uint32_t *size, uint32_t *members)
{
	int id = btf__find_by_name_kind(btf, name, BTF_KIND_STRUCT);
	const struct btf_type *type;
	if (id < 0)
		return id;
	type = btf__type_by_id(btf, id);
	*size = type->size;
	*members = btf_vlen(type);
	return id;
}

static const char *ks_btf_member(const struct btf *btf, int id, uint32_t index, uint32_t *bit_offset, int64_t *size)
{
	const struct btf_type *type = btf__type_by_id(btf, id);
	*bit_offset = btf_member_bit_offset(type, index);
	*size = btf__resolve_size(btf, btf_members(type)[index].type);
	return btf__name_by_offset(btf, btf_members(type)[index].name_off);
}

static int ks_btf_enum(const struct btf *btf, const char *name, uint32_t *members)
{
	int id = btf__find_by_name_kind(btf, name, BTF_KIND_ENUM);
	if (id >= 0)
		*members = btf_vlen(btf__type_by_id(btf, id));
	return id;
}

static const char *ks_btf_enumerator(const struct btf *btf, int id, uint32_t index, int64_t *value)
{
	const struct btf_enum *e = btf_enum(btf__type_by_id(btf, id)) + index;
	*value = e->val;
	return btf__name_by_offset(btf, e->name_off);
}
"""

ffibuilder.set_source("agent.kernel._libbpf", SOURCE, libraries=["bpf"], extra_compile_args=["-O2", "-Wall"])

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
