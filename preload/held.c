// SPDX-License-Identifier: Apache-2.0
/* Descriptors of live files, by number. `close` is not taken over, so an entry may speak of a descriptor that is gone or
 * is another one by now: it counts only while fstat() shows the file that it was made for. (In a tmpfs, which volumes
 * are, the number of a file that is gone is not given to another.) A rotation puts a new file at
 * the name; at the next rewind that one is opened and put at the same number by dup3(). */
#include "shim.h"

enum { YIELDS = 200, TURNS = YIELDS + 1000, PAUSE_NS = 100000 };

struct held held[HELD_MOST];

static struct held *entry_of(int fd)
{
	return (unsigned)fd < HELD_MOST ? &held[fd] : NULL;
}

static void write_identity(struct identity *identity, const struct file_state *state)
{
	__atomic_store_n(&identity->dev, state->dev, __ATOMIC_RELAXED);
	__atomic_store_n(&identity->ino, state->ino, __ATOMIC_RELEASE);
}

static void write_entry(struct held *entry, uint32_t name, const struct file_state *state)
{
	/* Never an old name with a new identity. */
	__atomic_store_n(&entry->name, 0, __ATOMIC_RELEASE);
	write_identity(&entry->shows[0], state);
	write_identity(&entry->shows[1], state);
	__atomic_store_n(&entry->name, name, __ATOMIC_RELEASE);
}

static int is_one(const struct identity *identity, const struct file_state *state)
{
	return __atomic_load_n(&identity->ino, __ATOMIC_ACQUIRE) == state->ino &&
	       __atomic_load_n(&identity->dev, __ATOMIC_RELAXED) == state->dev;
}

static int is_of(const struct held *entry, const struct file_state *state)
{
	return is_one(&entry->shows[0], state) || is_one(&entry->shows[1], state);
}

void held_track(int fd, const char *name, uint32_t bytes)
{
	struct held *entry = entry_of(fd);
	struct file_state state;
	uint32_t number, kind;

	if (!entry)
		return;
	held_forget(fd);
	if (raw_fstat(fd, &state))
		return;
	kind = state.mode & S_IFMT;
	if ((kind != S_IFREG && kind != S_IFDIR) || !(number = names_keep(name, bytes)))
		return;
	write_entry(entry, kind == S_IFDIR ? number | HELD_FOLDER : number, &state);
}

static void set_signals(const uint64_t *blocked, uint64_t *before)
{
	raw(NR_RT_SIGPROCMASK, SIG_SETMASK, (long)blocked, (long)before, sizeof(*blocked), 0, 0);
}

/* Makes this thread the one that swaps, until end_swap(): with all signals held back, so that no handler leaves it by a
 * jump and no cancellation ends it. Another thread is waited for by turns that have an end; one that is no more (it is
 * of the process before a fork) is taken over from. */
static int begin_swap(struct held *entry, uint64_t *signals)
{
	const uint64_t all = ~0ULL;
	const int64_t pause[2] = { 0, PAUSE_NS };
	uint32_t self = (uint32_t)raw(NR_GETTID, 0, 0, 0, 0, 0, 0), other = 0;

	for (unsigned turn = 0; turn < TURNS; turn++) {
		set_signals(&all, signals);
		if (__atomic_compare_exchange_n(&entry->swaps, &other, self, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			return 1;
		set_signals(signals, NULL);
		if (other == self)
			return 0;
		/* What is gone is taken over from in the next turn, as what is free is. */
		if (turn % 64 != 63 ||
		    raw(NR_TGKILL, raw(NR_GETPID, 0, 0, 0, 0, 0, 0), other, 0, 0, 0, 0) != -ESRCH)
			other = 0;
		if (turn < YIELDS)
			raw(NR_SCHED_YIELD, 0, 0, 0, 0, 0, 0);
		else
			raw(NR_NANOSLEEP, (long)pause, 0, 0, 0, 0, 0);
	}
	return 0;
}

static void end_swap(struct held *entry, const uint64_t *signals)
{
	__atomic_store_n(&entry->swaps, 0, __ATOMIC_RELEASE);
	set_signals(signals, NULL);
}

/* The entry of a descriptor that is still what it was; NULL where there is none, and one that is out of date goes. */
static struct held *true_entry(int fd, uint32_t *name, struct file_state *state)
{
	struct held *entry = entry_of(fd);
	uint64_t signals;

	if (!entry || !(*name = __atomic_load_n(&entry->name, __ATOMIC_ACQUIRE)) || raw_fstat(fd, state))
		return NULL;
	if (is_of(entry, state))
		return entry;
	/* Another thread may have swapped it since, and again: what counts is what it shows while nobody does. */
	if (!begin_swap(entry, &signals))
		return NULL;
	int is_true = !raw_fstat(fd, state) && is_of(entry, state);
	if (!is_true)
		__atomic_store_n(&entry->name, 0, __ATOMIC_RELEASE);
	end_swap(entry, &signals);
	return is_true ? entry : NULL;
}

void held_copy(int from, int to)
{
	struct held *entry = entry_of(to);
	struct file_state state;
	uint32_t name;

	if (!entry || from == to)
		return;
	held_forget(to);
	if (held_name(from) && true_entry(from, &name, &state))
		write_entry(entry, name, &state);
}

uint32_t held_folder(int fd)
{
	struct file_state state;
	uint32_t name;

	if (!(held_name(fd) & HELD_FOLDER) || !true_entry(fd, &name, &state))
		return 0;
	return name;
}

static int shown_now(uint32_t name, struct file_state *now)
{
	return !raw_statat(AT_FDCWD, names_text(name), now, 0) && (now->mode & S_IFMT) == S_IFREG;
}

/* Whether it has taken the place of that one. A volume is one file system: where another is at the name, the name means
 * something else by now, as after a chroot. */
static int is_newer(const struct file_state *now, const struct file_state *state)
{
	return now->dev == state->dev && now->ino != state->ino;
}

/* The entry of a descriptor that shows another file than its name. The name is looked at first: if the descriptor shows
 * that file later, it has not been older since, even where the number of a file that is gone is given to a new one. */
static struct held *old_entry(int fd, uint32_t *name, struct file_state *state)
{
	struct file_state now;
	uint32_t before = held_name(fd);
	int is_there = before && !(before & HELD_FOLDER) && shown_now(before, &now);
	struct held *entry = true_entry(fd, name, state);

	return entry && is_there && *name == before && is_newer(&now, state) ? entry : NULL;
}

int held_is_old(int fd)
{
	struct file_state state;
	uint32_t name;

	return old_entry(fd, &name, &state) != NULL;
}

/* Puts the file that is there now at the number. Whatever cannot be done leaves the descriptor as it was. */
static void swap(int fd, struct held *entry, uint32_t name, const struct file_state *old, enum moment moment)
{
	struct identity *other = &entry->shows[is_one(&entry->shows[0], old)];
	long flags = raw_fcntl(fd, F_GETFL, 0), kept = raw_fcntl(fd, F_GETFD, 0), position = raw_lseek(fd, 0, SEEK_CUR);
	struct file_state now;

	if (flags < 0 || kept < 0 || (flags & (O_ACCMODE | O_PATH)) != O_RDONLY)
		return;
	if (moment == ONLY_AT_AN_END && position > 0 && position < old->size)
		return;
	int again = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (int)(flags & (O_NOATIME | O_DIRECT));
	int fresh = (int)raw_openat(AT_FDCWD, names_text(name), again);
	if (fresh < 0)
		return;
	int fits = !raw_fstat(fresh, &now) && now.dev == old->dev && (now.mode & S_IFMT) == S_IFREG && !raw_fcntl(fresh, F_SETFL, flags);
	/* Who was at the end is at the end. */
	if (fits && position > 0)
		raw_lseek(fresh, 0, SEEK_END);
	if (fits) {
		write_identity(other, &now);
		raw_dup3(fresh, fd, kept & FD_CLOEXEC ? O_CLOEXEC : 0);
	}
	raw_close(fresh);
}

SLOW void held_renew(int fd, enum moment moment)
{
	struct file_state state, now;
	uint64_t signals;
	uint32_t name;
	struct held *entry = old_entry(fd, &name, &state);

	if (!entry || !begin_swap(entry, &signals))
		return;
	/* Another thread may have done it meanwhile. */
	if (shown_now(name, &now) && !raw_fstat(fd, &state) && is_of(entry, &state) &&
	    name == __atomic_load_n(&entry->name, __ATOMIC_ACQUIRE) && is_newer(&now, &state))
		swap(fd, entry, name, &state, moment);
	end_swap(entry, &signals);
}
