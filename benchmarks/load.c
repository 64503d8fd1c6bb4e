/* The load of the I/O rows: HOST PORT CONNECTIONS SIZE WARM_UP MESSAGES

   HOST is an IPv4 address for TCP, "udp:" and one for datagrams, or "unix:" and the path of a stream socket (PORT is not
   looked at then).
   Closed loop: every connection has one message in flight, and sends the next when the whole echo has come back equal.
   After the warm-up (messages per connection) it prints "warm" and waits for a line on standard input, so that the server's
   CPU time can be read while it is idle; then it sends MESSAGES in all, and prints one JSON line with the latencies.
   One thread, epoll; compiled when the suite starts. load_fallback.py is its twin for a machine without a C compiler. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    int fd;
    size_t sent, received; /* of the message in flight */
    uint64_t began_ns;
    int waits_to_write;
} connection;

static int poller;
static size_t size;
static char *pattern, *inbox;
static uint64_t *latencies_ns;

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void interest(connection *it, int to_write, int operation) {
    struct epoll_event event = {.events = EPOLLIN | (to_write ? EPOLLOUT : 0), .data.ptr = it};
    it->waits_to_write = to_write;
    if (epoll_ctl(poller, operation, it->fd, &event)) fail("epoll_ctl");
}

static void push(connection *it) {
    while (it->sent < size) {
        ssize_t count = send(it->fd, pattern + it->sent, size - it->sent, MSG_NOSIGNAL);
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) break;
        if (count < 0) fail("send");
        it->sent += (size_t)count;
    }
    if ((it->sent < size) != it->waits_to_write) interest(it, it->sent < size, EPOLL_CTL_MOD);
}

static void start(connection *it) {
    it->sent = it->received = 0;
    it->began_ns = now_ns();
    push(it);
}

/* Whether the echo is complete. */
static int pull(connection *it) {
    while (it->received < size) {
        ssize_t count = recv(it->fd, inbox, size - it->received, 0);
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
        if (count < 0) fail("recv");
        if (count == 0) { errno = ECONNRESET; fail("the server closed a connection"); }
        if (memcmp(inbox, pattern + it->received, (size_t)count)) { errno = EPROTO; fail("the echo differs"); }
        it->received += (size_t)count;
        if (it->received < size) return 0; /* level-triggered: the rest is reported again */
    }
    return 1;
}

static void run(connection *all, size_t connections, size_t messages, int record) {
    struct epoll_event events[256];
    size_t started = 0, done = 0;
    for (; started < connections && started < messages; started++) start(&all[started]);
    while (done < messages) {
        int count = epoll_wait(poller, events, 256, 10000);
        if (count < 0 && errno != EINTR) fail("epoll_wait");
        if (count == 0) { errno = ETIMEDOUT; fail("no answer for 10 s"); }
        for (int i = 0; i < count; i++) {
            connection *it = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) push(it);
            if (!(events[i].events & ~(uint32_t)EPOLLOUT) || !pull(it)) continue;
            if (record) latencies_ns[done] = now_ns() - it->began_ns;
            done++;
            if (started < messages) { started++; start(it); }
        }
    }
}

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Connect a socket to HOST and PORT, of whichever kind. */
static int open_connection(const char *host, const char *port) {
    int one = 1, fd;
    if (!strncmp(host, "unix:", 5)) {
        struct sockaddr_un path = {.sun_family = AF_UNIX};
        strncpy(path.sun_path, host + 5, sizeof path.sun_path - 1);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&path, sizeof path)) fail("connect");
        return fd;
    }
    int datagrams = !strncmp(host, "udp:", 4);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    inet_pton(AF_INET, datagrams ? host + 4 : host, &address.sin_addr);
    fd = socket(AF_INET, (datagrams ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    if (!datagrams) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 7) { fprintf(stderr, "load: HOST PORT CONNECTIONS SIZE WARM_UP MESSAGES\n"); return 2; }
    size_t connections = strtoul(argv[3], NULL, 10), warm_up = strtoul(argv[5], NULL, 10), messages = strtoul(argv[6], NULL, 10);
    size = strtoul(argv[4], NULL, 10);
    connection *all = calloc(connections, sizeof *all);
    pattern = malloc(size), inbox = malloc(size), latencies_ns = calloc(messages, sizeof *latencies_ns);
    if (!all || !pattern || !inbox || !latencies_ns) fail("malloc");
    for (size_t i = 0; i < size; i++) pattern[i] = (char)(i * 31 + i / 251);
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; i < connections; i++) {
        all[i].fd = open_connection(argv[1], argv[2]);
        if (fcntl(all[i].fd, F_SETFL, O_NONBLOCK)) fail("fcntl");
        interest(&all[i], 0, EPOLL_CTL_ADD);
    }
    run(all, connections, warm_up * connections, 0);
    printf("warm\n");
    fflush(stdout);
    char line[64];
    if (!fgets(line, sizeof line, stdin)) return 1;
    uint64_t began = now_ns();
    run(all, connections, messages, 1);
    uint64_t wall = now_ns() - began;
    qsort(latencies_ns, messages, sizeof *latencies_ns, by_size);
    printf("{\"operations\": %zu, \"wall_ns\": %llu, \"p50_ns\": %llu, \"p99_ns\": %llu, \"max_ns\": %llu}\n", messages,
           (unsigned long long)wall, (unsigned long long)latencies_ns[messages / 2],
           (unsigned long long)latencies_ns[messages * 99 / 100], (unsigned long long)latencies_ns[messages - 1]);
    fflush(stdout);
    /* The connections stay open until the server's usage was read: closing them is no part of the row. */
    return fgets(line, sizeof line, stdin) ? 0 : 1;
}
