// SPDX-License-Identifier: Apache-2.0
/* Posts admission reviews over TLS with keep-alive, as an API server would, and checks every answer.
 * reviews PORT CA HOST PATH BODIES CONNECTIONS closed COUNT
 *     each connection posts its next review as soon as the last is answered, until COUNT are
 * reviews PORT CA HOST PATH BODIES CONNECTIONS open COUNT RATE
 *     reviews arrive RATE a second, by chance (Poisson), whether or not others are answered; each is timed from when it
 *     arrived, also where it had to wait for a connection
 * BODIES: 4 bytes of length (little endian), the body, and so on; taken in turn. The 12 digits in a body after UID are
 * replaced by a number of its own, which the answer must echo.
 * Prints: seconds, own CPU seconds; and for `open` a line of nanoseconds for each review. */
#include "files.h"
#include <arpa/inet.h>
#include <math.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#define UID "00000000-0000-4000-8000-"
#define DIGITS 12
#define MAX_CONNECTIONS 256
#define MAX_BODIES 4096
#define STUCK_NS 30000000000ULL

struct body {
	const char *text;
	size_t length, digits;
};

struct connection {
	SSL *ssl;
	int busy;
	uint64_t arrived;
	long number;
	size_t to_send, sent, got;
	char out[LONGEST + 1024], in[LONGEST];
};

static struct body bodies[MAX_BODIES];
static struct connection connections[MAX_CONNECTIONS];
static int n_bodies, n_connections, timer = -1, poll_fd;
static long count, posted, answered;
static uint64_t *arrivals, *latencies;
static const char *host, *path;

static void fail(const char *why)
{
	fprintf(stderr, "%s\n", why);
	ERR_print_errors_fp(stderr);
	exit(1);
}

static void load(const char *file)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	char *all = size < 0 ? NULL : malloc((size_t)size + 1);

	if (!all || pread(fd, all, (size_t)size, 0) != size)
		fail("bodies cannot be read");
	close(fd);
	for (off_t at = 0; at + 4 <= size && n_bodies < MAX_BODIES; n_bodies++) {
		struct body *body = &bodies[n_bodies];
		uint32_t length;
		char *uid;

		memcpy(&length, all + at, 4);
		body->text = all + at + 4;
		body->length = length;
		uid = memmem(body->text, length, UID, strlen(UID));
		if (length > LONGEST || at + 4 + (off_t)length > size || !uid)
			fail("a body is too long, cut, or without its uid");
		body->digits = (size_t)(uid - body->text) + strlen(UID);
		at += 4 + (off_t)length;
	}
	if (!n_bodies)
		fail("no bodies");
}

static SSL *connected(SSL_CTX *context, int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	SSL *ssl = SSL_new(context);

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)))
		fail("no connection");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (!ssl || !SSL_set1_host(ssl, host) || !SSL_set_tlsext_host_name(ssl, host) || !SSL_set_fd(ssl, fd))
		fail("no TLS");
	if (SSL_connect(ssl) != 1)
		fail("the server's certificate is not trusted, or no TLS is spoken");
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return ssl;
}

/* Waiting is for reading, and for writing only where a write could not be finished. */
static void wait_for(struct connection *c, int operation, int writing)
{
	struct epoll_event event = { .events = writing ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c };

	if (epoll_ctl(poll_fd, operation, SSL_get_fd(c->ssl), &event))
		fail("epoll");
}

static int wants(struct connection *c, int result)
{
	int error = SSL_get_error(c->ssl, result);

	if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
		fail("the connection broke");
	return error == SSL_ERROR_WANT_WRITE;
}

static void send_more(struct connection *c, int waited)
{
	while (c->sent < c->to_send) {
		int n = SSL_write(c->ssl, c->out + c->sent, (int)(c->to_send - c->sent));

		if (n <= 0) {
			wait_for(c, EPOLL_CTL_MOD, wants(c, n));
			return;
		}
		c->sent += (size_t)n;
	}
	if (waited)
		wait_for(c, EPOLL_CTL_MOD, 0);
}

static void post(struct connection *c)
{
	const struct body *body = &bodies[posted % n_bodies];
	char digits[DIGITS + 1];
	int head;

	c->number = posted++;
	c->arrived = arrivals ? arrivals[c->number] : 0;
	head = snprintf(c->out, 1024,
			"POST %s?timeout=5s HTTP/1.1\r\nHost: %s\r\nUser-Agent: kube-apiserver-admission\r\n"
			"Content-Length: %zu\r\nAccept: application/json, */*\r\nContent-Type: application/json\r\n"
			"Accept-Encoding: gzip\r\n\r\n", path, host, body->length);
	memcpy(c->out + head, body->text, body->length);
	snprintf(digits, sizeof(digits), "%012ld", c->number);
	memcpy(c->out + head + body->digits, digits, DIGITS);
	c->to_send = (size_t)head + body->length;
	c->sent = c->got = 0;
	c->busy = 1;
	send_more(c, 0);
}

static void check(struct connection *c, const char *answer, size_t length)
{
	char uid[sizeof(UID) + DIGITS];

	snprintf(uid, sizeof(uid), "%s%012ld", UID, c->number);
	if (memcmp(c->in, "HTTP/1.1 200 ", 13) || !memmem(answer, length, uid, strlen(uid)) ||
	    !memmem(answer, length, "\"allowed\":true", 14) || !memmem(answer, length, "\"patch\":\"", 9)) {
		fprintf(stderr, "review %ld is not answered by an injection: %.*s\n", c->number,
			(int)(c->got < 1500 ? c->got : 1500), c->in);
		exit(1);
	}
}

/* Whether the answer is complete. */
static int is_whole(struct connection *c)
{
	char *end = memmem(c->in, c->got, "\r\n\r\n", 4), *length;
	size_t head, body;

	if (!end)
		return 0;
	c->in[c->got] = 0;
	length = strcasestr(c->in, "\r\ncontent-length:");
	if (!length || length > end)
		fail("an answer without a length");
	head = (size_t)(end - c->in) + 4;
	body = strtoul(length + 17, NULL, 10);
	if (c->got < head + body)
		return 0;
	check(c, c->in + head, body);
	return 1;
}

static void receive(struct connection *c)
{
	while (c->busy) {
		int n = SSL_read(c->ssl, c->in + c->got, (int)(sizeof(c->in) - 1 - c->got));

		if (n <= 0) {
			wants(c, n);
			return;
		}
		c->got += (size_t)n;
		if (is_whole(c)) {
			if (latencies)
				latencies[c->number] = now_ns() - c->arrived;
			answered++;
			c->busy = 0;
			if (!arrivals && posted < count)
				post(c);
		}
	}
}

/* Posts what has arrived as long as a connection is free, and sets the timer to the next arrival. */
static void arrive(void)
{
	struct itimerspec at = { 0 };
	uint64_t next;

	for (int i = 0; i < n_connections && posted < count && arrivals[posted] <= now_ns(); i++)
		if (!connections[i].busy)
			post(&connections[i]);
	if (posted == count)
		return;
	next = arrivals[posted];
	if (next <= now_ns())
		return; /* every connection is busy: whoever is answered next takes it */
	at.it_value.tv_sec = (time_t)(next / 1000000000ULL);
	at.it_value.tv_nsec = (long)(next % 1000000000ULL);
	timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

static void plan(double rate)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };
	double at = (double)now_ns() + 1e7;

	arrivals = malloc((size_t)count * sizeof(*arrivals));
	latencies = malloc((size_t)count * sizeof(*latencies));
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (!arrivals || !latencies || timer < 0 || epoll_ctl(poll_fd, EPOLL_CTL_ADD, timer, &event))
		fail("no timer");
	srand48(1);
	for (long i = 0; i < count; i++) {
		arrivals[i] = (uint64_t)at;
		at -= log(1 - drand48()) / rate * 1e9;
	}
}

static void run(void)
{
	uint64_t heard = now_ns();

	for (int i = 0; !arrivals && i < n_connections && posted < count; i++)
		post(&connections[i]);
	while (answered < count) {
		struct epoll_event events[MAX_CONNECTIONS];
		int n;

		if (arrivals)
			arrive();
		n = epoll_wait(poll_fd, events, MAX_CONNECTIONS, 1000);
		if (n > 0)
			heard = now_ns();
		else if (now_ns() - heard > STUCK_NS)
			fail("nothing is answered any more");
		for (int i = 0; i < n; i++) {
			struct connection *c = events[i].data.ptr;
			uint64_t expirations;

			if (!c) {
				if (read(timer, &expirations, sizeof(expirations)) < 0 && errno != EAGAIN)
					fail("timer");
				continue;
			}
			if (c->busy && c->sent < c->to_send)
				send_more(c, 1);
			receive(c);
		}
	}
}

static double cpu_s(const struct rusage *used)
{
	return (double)(used->ru_utime.tv_sec + used->ru_stime.tv_sec) +
	       (double)(used->ru_utime.tv_usec + used->ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	struct rusage before, used;
	uint64_t began;

	if (argc < 9)
		return 2;
	host = argv[3];
	path = argv[4];
	load(argv[5]);
	n_connections = atoi(argv[6]);
	count = atol(argv[8]);
	if (!context || n_connections < 1 || n_connections > MAX_CONNECTIONS || count < 1)
		return 2;
	if (SSL_CTX_load_verify_locations(context, argv[2], NULL) != 1)
		fail("no CA");
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	poll_fd = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < n_connections; i++) {
		connections[i].ssl = connected(context, atoi(argv[1]));
		wait_for(&connections[i], EPOLL_CTL_ADD, 0);
	}
	if (!strcmp(argv[7], "open"))
		plan(argc > 9 ? atof(argv[9]) : 0);
	getrusage(RUSAGE_SELF, &before);
	began = now_ns();
	run();
	getrusage(RUSAGE_SELF, &used);
	printf("%.6f %.6f\n", (double)(now_ns() - began) / 1e9, cpu_s(&used) - cpu_s(&before));
	for (long i = 0; latencies && i < count; i++)
		printf("%llu\n", (unsigned long long)latencies[i]);
	return 0;
}
