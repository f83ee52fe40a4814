/* The measuring client: many downloads at once over HTTP/1.1 or CFS/1, from one thread, with epoll.

   load [options] http|cfs PORT TARGET      TARGET: the path of the request, or what follows "GET "

   -c N  connections at once          -n N  requests in all
   -k    keep connections: the next request goes out when the reply to the last one is whole
   -l N  bytes that every reply must promise and bring (without it: whatever it promises)
   -s N  connect from N addresses, 127.0.0.1 and up, where the ports of one would run short
   -t F  write to F when how much had arrived: a line "id seconds bytes" for each piece (cfs only)
   -w N  seconds after which it gives up

   Content is thrown away inside the kernel (MSG_TRUNC), so that receiving costs no copy. A reply is whole with its last
   promised byte, over CFS/1 with its END. Anything else is an error, and the first one ends the run. Prints one JSON object. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_SIZE = 16384, PIECE = 1 << 20, EVENTS = 256 };
enum state { IDLE, CONNECTING, HEAD, CONTENT, TAIL };

struct connection {
    int fd;
    enum state state;
    size_t used;        /* bytes in head */
    long long left;     /* bytes of content that are still to come */
    long long got, id;  /* for the trace */
    double begun;
    char head[HEAD_SIZE];
};

static int is_cfs, keep, sources = 1, patience = 120;
static long connections = 1, requests = 1, started, finished;
static long long expected = -1, bytes;
static int epoll, port;
static char request[8400];
static size_t request_size;
static double *latencies;
static FILE *trace;
static struct connection *all;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

/* Says what went wrong, as JSON, and ends the run. */
static void fail(const char *format, ...) {
    char message[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    printf("{\"errors\": 1, \"requests\": %ld, \"message\": \"", finished);
    for (char *c = message; *c; c++) putchar(*c == '"' || *c == '\\' || *c < ' ' || *c > '~' ? ' ' : *c);
    printf("\"}\n");
    exit(1);
}

static void watch(struct connection *c, int operation, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll, operation, c->fd, &event)) fail("epoll_ctl: %s", strerror(errno));
}

/* --- requests */

static void ask(struct connection *c, int operation) {
    ssize_t sent = send(c->fd, request, request_size, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == ENOTCONN)) {
        c->state = CONNECTING;
        watch(c, operation, EPOLLOUT);
        return;
    }
    if (sent != (ssize_t)request_size) fail("the request could not be sent: %s", strerror(errno));
    if (operation) watch(c, operation, EPOLLIN);
    c->state = HEAD;
    c->used = 0;
}

static void open_connection(struct connection *c) {
    static unsigned next;
    struct sockaddr_in address = {.sin_family = AF_INET};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("no socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (sources > 1) {
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + next++ % sources);
        if (bind(c->fd, (struct sockaddr *)&address, sizeof address)) fail("bind: %s", strerror(errno));
    }
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    ask(c, EPOLL_CTL_ADD);
}

/* The next request, if there is one left: on the same connection if that is kept. */
static void begin(struct connection *c) {
    if (started == requests) {
        if (c->fd >= 0) close(c->fd);
        c->fd = -1;
        c->state = IDLE;
        return;
    }
    started++;
    c->begun = now();
    if (c->fd >= 0) ask(c, 0);
    else open_connection(c);
}

static void finish(struct connection *c) {
    latencies[finished++] = now() - c->begun;
    if (!keep) {
        close(c->fd);
        c->fd = -1;
    }
    begin(c);
}

/* --- replies */

/* The number behind `name`, which stands in `text` in whatever capitals. */
static long long number(const char *text, const char *name) {
    const char *found = strcasestr(text, name);
    char *end;
    if (!found) fail("no %s in the reply: %.300s", name, text);
    found += strlen(name);
    long long value = strtoll(found, &end, 10);
    if (end == found || value < 0) fail("no number behind %s in the reply: %.300s", name, text);
    return value;
}

/* Where the head ends; 0 while it has not all come. The end is cut off as a text. */
static size_t head_end(struct connection *c) {
    const char *mark = is_cfs ? "\n" : "\r\n\r\n";
    char *end = memmem(c->head, c->used, mark, strlen(mark));
    if (!end) {
        if (c->used == HEAD_SIZE - 1) fail("the head of the reply does not end");
        return 0;
    }
    *end = 0;
    return end - c->head + strlen(mark);
}

static void read_head(struct connection *c) {
    const char *good = is_cfs ? "OK {" : "HTTP/1.1 200 ", *older = is_cfs ? good : "HTTP/1.0 200 ";
    if (strncmp(c->head, good, strlen(good)) && strncmp(c->head, older, strlen(older)))
        fail("the reply is %.300s", c->head);
    c->left = number(c->head, is_cfs ? "\"length\": " : "\r\nContent-Length: ");
    if (expected >= 0 && c->left != expected) fail("%lld bytes promised, not %lld", c->left, expected);
    if (trace) c->id = number(c->head, "\"id\": ");
    c->got = 0;
}

static void count(struct connection *c, long long size) {
    c->left -= size;
    c->got += size;
    bytes += size;
    if (trace && size) fprintf(trace, "%lld %.6f %lld\n", c->id, now(), c->got);
}

/* What has gathered in c->head, for the state that it is in; 0: more is needed. */
static int step(struct connection *c) {
    size_t end, size;
    switch (c->state) {
    case HEAD:
        if (!(end = head_end(c))) return 0;
        read_head(c);
        c->state = CONTENT;
        break;
    case CONTENT:
        end = (long long)c->used < c->left ? c->used : (size_t)c->left;
        count(c, end);
        if (c->left) {
            c->used = 0;
            return 0;
        }
        c->state = TAIL;
        break;
    case TAIL:
        if (is_cfs && !(end = head_end(c))) return 0;
        if (is_cfs && strncmp(c->head, "END {", 5)) fail("in place of END: %.300s", c->head);
        size = is_cfs ? end : 0;
        if (c->used != size) fail("%zu bytes behind the end of the reply", c->used - size);
        finish(c);
        return 0;
    default:
        fail("bytes that nobody has asked for");
        return 0;
    }
    memmove(c->head, c->head + end, c->used - end);
    c->used -= end;
    return 1;
}

static void receive(struct connection *c) {
    ssize_t size;
    if (c->state == CONTENT)
        size = recv(c->fd, NULL, c->left < PIECE ? c->left : PIECE, MSG_TRUNC);
    else
        size = recv(c->fd, c->head + c->used, HEAD_SIZE - 1 - c->used, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size < 0) fail("the connection broke: %s", strerror(errno));
    if (size == 0) fail("the connection ended early, with %lld bytes missing", c->left);
    if (c->state == CONTENT) {
        count(c, size);
        if (c->left) return;
        c->state = TAIL;
    } else {
        c->used += size;
        c->head[c->used] = 0;
    }
    while (step(c)) {}
}

static void handle(struct connection *c, unsigned events) {
    if (c->state != CONNECTING) {
        receive(c);
    } else {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error || !(events & EPOLLOUT)) fail("connect: %s", strerror(error));
        ask(c, EPOLL_CTL_MOD);
    }
}

/* --- the run */

static void run(double until) {
    struct epoll_event events[EVENTS];
    for (long i = 0; i < connections; i++) begin(&all[i]);
    while (finished < requests) {
        int ready = epoll_wait(epoll, events, EVENTS, 1000);
        if (ready < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < ready; i++) handle(events[i].data.ptr, events[i].events);
        if (now() > until) fail("only %ld of %ld requests are done after %d s", finished, requests, patience);
    }
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(double part) {
    long rank = (long)(part * requests + 0.999999);
    return latencies[rank < 1 ? 0 : rank - 1];
}

static void report(double seconds) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    qsort(latencies, requests, sizeof *latencies, compare);
    printf("{\"errors\": 0, \"seconds\": %.6f, \"bytes\": %lld, \"requests\": %ld, \"cpu\": %.6f,", seconds, bytes, requests, cpu);
    printf(" \"least\": %.6f, \"median\": %.6f, \"p95\": %.6f,", latencies[0], percentile(0.5), percentile(0.95));
    printf(" \"p99\": %.6f, \"most\": %.6f}\n", percentile(0.99), latencies[requests - 1]);
}

static void prepare(const char *target) {
    const char *ending = keep ? "" : "Connection: close\r\n";
    int size;
    if (is_cfs) size = snprintf(request, sizeof request, "GET %s\n", target);
    else size = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s\r\n", target, port, ending);
    if (size >= (int)sizeof request) fail("the request is too long");
    request_size = size;
    if (connections > requests) connections = requests;
    all = calloc(connections, sizeof *all);
    latencies = calloc(requests, sizeof *latencies);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!all || !latencies || epoll < 0) fail("no room for %ld connections", connections);
    for (long i = 0; i < connections; i++) all[i].fd = -1;
}

int main(int count, char **words) {
    int option;
    while ((option = getopt(count, words, "c:n:kl:s:t:w:")) != -1) {
        switch (option) {
        case 'c': connections = atol(optarg); break;
        case 'n': requests = atol(optarg); break;
        case 'k': keep = 1; break;
        case 'l': expected = atoll(optarg); break;
        case 's': sources = atoi(optarg); break;
        case 't': if (!(trace = fopen(optarg, "w"))) fail("%s: %s", optarg, strerror(errno)); break;
        case 'w': patience = atoi(optarg); break;
        default: fail("an option that load does not have");
        }
    }
    if (count - optind != 3 || connections < 1 || requests < 1 || sources < 1) fail("how to use it stands in load.c");
    is_cfs = !strcmp(words[optind], "cfs");
    if (!is_cfs && strcmp(words[optind], "http")) fail("the protocols are http and cfs");
    if (trace && !is_cfs) fail("only cfs has ids to trace");
    port = atoi(words[optind + 1]);
    prepare(words[optind + 2]);
    double begun = now();
    run(begun + patience);
    report(now() - begun);
    return trace && fclose(trace) ? 1 : 0;
}
