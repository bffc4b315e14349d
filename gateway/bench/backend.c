/* A backend that answers at once: one thread, epoll, any number of ports.
 *
 *   cc -O2 -o backend backend.c
 *   ./backend 9101 9102
 *
 * POST .../chat/completions   JSON reply, or SSE when the body has "stream":true.
 * GET  /__set?delay_us=0&chunks=100&interval_us=0   (any subset) changes the shape, for all ports.
 * GET  /__stats               replies served since start.
 * GET  anything else          200 (health checks, /v1/models).
 *
 * Each SSE chunk's content carries "t=<CLOCK_MONOTONIC ns at send>", so a client on the
 * same machine can tell, chunk by chunk, how long the gateway held it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAXFD 8192
#define INBUF (2 * 1024 * 1024)
#define OUTBUF (64 * 1024)

typedef struct {
  int fd, open, listening, streaming, want_usage, sent, total, waiting;
  uint32_t gen;
  size_t in_len, out_len, out_off;
  char *in, *out;
} conn;

static conn C[MAXFD];
static int ep, tfd;
static uint64_t cfg_delay_us, cfg_interval_us, cfg_chunks = 100, served;

typedef struct { uint64_t at; int fd; uint32_t gen; } timer_ent;
static timer_ent heap[65536];
static int heap_n;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + t.tv_nsec;
}
static void arm(void) {
  struct itimerspec s = {0};
  if (heap_n) { s.it_value.tv_sec = heap[0].at / 1000000000ull; s.it_value.tv_nsec = heap[0].at % 1000000000ull; }
  timerfd_settime(tfd, TFD_TIMER_ABSTIME, &s, NULL);
}
static void heap_push(timer_ent e) {
  if (heap_n >= 65536) return;
  int i = heap_n++;
  while (i && heap[(i - 1) / 2].at > e.at) { heap[i] = heap[(i - 1) / 2]; i = (i - 1) / 2; }
  heap[i] = e;
  if (i == 0) arm();
}
static timer_ent heap_pop(void) {
  timer_ent top = heap[0], e = heap[--heap_n];
  int i = 0;
  for (;;) {
    int k = 2 * i + 1;
    if (k >= heap_n) break;
    if (k + 1 < heap_n && heap[k + 1].at < heap[k].at) k++;
    if (heap[k].at >= e.at) break;
    heap[i] = heap[k];
    i = k;
  }
  heap[i] = e;
  return top;
}
static void after(conn *c, uint64_t at) { c->waiting = 1; heap_push((timer_ent){at, c->fd, c->gen}); }

static void drop(conn *c) {
  close(c->fd);
  c->open = 0;
  c->gen++;
  c->in_len = c->out_len = c->out_off = 0;
  c->streaming = c->waiting = 0;
}
static void watch(conn *c, uint32_t ev) {
  struct epoll_event e = {.events = ev, .data.fd = c->fd};
  epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}
/* 1: all written, 0: would block, -1: gone */
static int flush(conn *c) {
  while (c->out_off < c->out_len) {
    ssize_t n = write(c->fd, c->out + c->out_off, c->out_len - c->out_off);
    if (n < 0) {
      if (errno == EAGAIN) { watch(c, EPOLLIN | EPOLLOUT); return 0; }
      drop(c);
      return -1;
    }
    c->out_off += n;
  }
  c->out_off = c->out_len = 0;
  return 1;
}
static void put(conn *c, const char *s, size_t n) {
  if (c->out_len + n > OUTBUF) return;
  memcpy(c->out + c->out_len, s, n);
  c->out_len += n;
}

static const char JSON_BODY[] =
    "{\"id\":\"chatcmpl-0123456789abcdef01234567\",\"object\":\"chat.completion\",\"created\":1700000000,"
    "\"model\":\"mock\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\""
    "A router in front of several language models picks, for each prompt, the cheapest model that is expected to "
    "answer it well enough. It needs an estimate of the quality every candidate would reach, a price list, and a "
    "rule that trades one against the other. Everything else - retries, timeouts, health checks, streaming - is the "
    "ordinary work of a reverse proxy, and it should cost next to nothing compared with the generation itself.\","
    "\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":212,"
    "\"completion_tokens\":84,\"total_tokens\":296,\"prompt_tokens_details\":{\"cached_tokens\":0}},"
    "\"system_fingerprint\":\"fp_mock\"}";
static char json_reply[4096];
static size_t json_reply_len;
static const char SSE_HEAD[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
    "Transfer-Encoding: chunked\r\n\r\n";

static void put_chunk(conn *c, const char *s, int n) {
  char h[16];
  int k = snprintf(h, sizeof h, "%x\r\n", n);
  put(c, h, k);
  put(c, s, n);
  put(c, "\r\n", 2);
}
static void put_event(conn *c) {
  char b[512];
  int n;
  const char *pre = "data: {\"id\":\"chatcmpl-0123456789abcdef01234567\",\"object\":\"chat.completion.chunk\","
                    "\"created\":1700000000,\"model\":\"mock\",\"system_fingerprint\":\"fp_mock\",";
  if (c->sent < c->total) {
    n = snprintf(b, sizeof b, "%s\"choices\":[{\"index\":0,\"delta\":{%s\"content\":\" t=%llu\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n",
                 pre, c->sent ? "" : "\"role\":\"assistant\",", (unsigned long long)now_ns());
    put_chunk(c, b, n);
    c->sent++;
  } else {
    n = snprintf(b, sizeof b, "%s\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n", pre);
    put_chunk(c, b, n);
    if (c->want_usage) {
      n = snprintf(b, sizeof b, "%s\"choices\":[],\"usage\":{\"prompt_tokens\":212,\"completion_tokens\":%d,\"total_tokens\":%d}}\n\n", pre, c->total, 212 + c->total);
      put_chunk(c, b, n);
    }
    put_chunk(c, "data: [DONE]\n\n", 14);
    put(c, "0\r\n\r\n", 5);
    c->streaming = 0;
    served++;
  }
}
static void parse(conn *c);
static void pump(conn *c) { /* send stream events that are due */
  while (c->open && c->streaming) {
    put_event(c);
    int r = flush(c);
    if (r < 0) return;
    if (c->streaming && cfg_interval_us) { after(c, now_ns() + cfg_interval_us * 1000); return; }
    if (r == 0) return; /* resumed by EPOLLOUT */
  }
  if (c->open && c->in_len) parse(c);
}
static void answer(conn *c) {
  if (c->streaming) {
    put(c, SSE_HEAD, sizeof SSE_HEAD - 1);
    pump(c);
  } else {
    put(c, json_reply, json_reply_len);
    served++;
    flush(c);
  }
}
static void on_timer(conn *c) {
  c->waiting = 0;
  if (c->streaming && c->sent) pump(c);
  else { answer(c); if (c->open && !c->streaming && c->in_len) parse(c); }
}
static uint64_t arg(const char *q, const char *k, uint64_t old) {
  const char *p = strstr(q, k);
  return p ? strtoull(p + strlen(k), NULL, 10) : old;
}
static void small(conn *c, const char *body) {
  char b[512];
  int n = snprintf(b, sizeof b, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
  put(c, b, n);
  flush(c);
}
static void parse(conn *c) {
  while (c->open && !c->streaming && !c->waiting && c->in_len) {
    c->in[c->in_len] = 0;
    char *e = memmem(c->in, c->in_len, "\r\n\r\n", 4);
    if (!e) return;
    size_t head = e - c->in + 4, body = 0, total;
    *e = 0;
    char *p = strcasestr(c->in, "\ncontent-length:");
    if (p) body = strtoull(p + 16, NULL, 10);
    int chunked = !p && strcasestr(c->in, "\ntransfer-encoding:") != NULL;
    *e = '\r';
    total = head + body;
    if (chunked) {
      char *z = memmem(c->in + head, c->in_len - head, "0\r\n\r\n", 5);
      if (!z) return;
      total = z + 5 - c->in;
      body = total - head;
    }
    if (c->in_len < total) return;
    char b[300];
    if (c->in[0] == 'P') {
      char *q = c->in + head;
      int s = memmem(q, body, "\"stream\":true", 13) || memmem(q, body, "\"stream\": true", 14);
      c->streaming = s;
      c->want_usage = memmem(q, body, "\"include_usage\"", 15) != NULL;
      c->sent = 0;
      c->total = cfg_chunks;
      memmove(c->in, c->in + total, c->in_len -= total);
      if (cfg_delay_us) after(c, now_ns() + cfg_delay_us * 1000);
      else answer(c);
      continue;
    }
    if (!strncmp(c->in, "GET /__set", 10)) {
      char *nl = strstr(c->in, "\r\n");
      *nl = 0;
      cfg_delay_us = arg(c->in, "delay_us=", cfg_delay_us);
      cfg_chunks = arg(c->in, "chunks=", cfg_chunks);
      cfg_interval_us = arg(c->in, "interval_us=", cfg_interval_us);
      *nl = '\r';
      small(c, "{}");
    } else if (!strncmp(c->in, "GET /__stats", 12)) {
      snprintf(b, sizeof b, "{\"served\":%llu}", (unsigned long long)served);
      small(c, b);
    } else if (!strncmp(c->in, "GET /v1/models", 14)) {
      small(c, "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"mock\"}]}");
    } else
      small(c, "{\"model_path\":\"mock\",\"model_id\":\"mock\",\"served_model_name\":\"mock\",\"status\":\"ok\"}");
    if (!c->open) return;
    memmove(c->in, c->in + total, c->in_len -= total);
  }
}
int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  json_reply_len = snprintf(json_reply, sizeof json_reply,
      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", sizeof JSON_BODY - 1, JSON_BODY);
  ep = epoll_create1(0);
  tfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct epoll_event ev = {.events = EPOLLIN, .data.fd = tfd};
  epoll_ctl(ep, EPOLL_CTL_ADD, tfd, &ev);
  for (int i = 1; i < argc; i++) {
    int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[i])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(s, (void *)&a, sizeof a) || listen(s, 1024)) { perror(argv[i]); return 1; }
    C[s].fd = s;
    C[s].listening = 1;
    ev = (struct epoll_event){.events = EPOLLIN, .data.fd = s};
    epoll_ctl(ep, EPOLL_CTL_ADD, s, &ev);
  }
  static struct epoll_event evs[256];
  for (;;) {
    int n = epoll_wait(ep, evs, 256, -1);
    for (int i = 0; i < n; i++) {
      int fd = evs[i].data.fd;
      if (fd == tfd) {
        uint64_t x, t = now_ns();
        if (read(tfd, &x, 8) < 0) {}
        while (heap_n && heap[0].at <= t) {
          timer_ent te = heap_pop();
          conn *c = &C[te.fd];
          if (c->open && c->gen == te.gen) on_timer(c);
        }
        arm();
        continue;
      }
      conn *c = &C[fd];
      if (c->listening) {
        int k;
        while ((k = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
          if (k >= MAXFD) { close(k); continue; }
          int one = 1;
          setsockopt(k, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
          conn *d = &C[k];
          if (!d->in) { d->in = malloc(INBUF + 1); d->out = malloc(OUTBUF); }
          d->fd = k;
          d->open = 1;
          ev = (struct epoll_event){.events = EPOLLIN, .data.fd = k};
          epoll_ctl(ep, EPOLL_CTL_ADD, k, &ev);
        }
        continue;
      }
      if (!c->open) continue;
      if (evs[i].events & EPOLLOUT) {
        int r = flush(c);
        if (r < 0) continue;
        if (r == 1) { watch(c, EPOLLIN); if (c->streaming && !c->waiting) pump(c); }
        if (!c->open) continue;
      }
      if (evs[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        ssize_t r = read(fd, c->in + c->in_len, INBUF - c->in_len);
        if (r == 0 || (r < 0 && errno != EAGAIN)) { drop(c); continue; }
        if (r > 0) { c->in_len += r; parse(c); }
      }
    }
  }
}
