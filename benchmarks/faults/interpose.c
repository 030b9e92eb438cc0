/* Stands before the C library and makes the n-th file operation of a process go wrong: killed, disk full, I/O error.

   Loaded with LD_PRELOAD. Nothing happens until fault_arm() is called; from then on every operation on a path that
   holds `pattern` and is of a kind in `operations` is counted, and the one with number `at` meets its fault. Each
   counted operation is written to `log` (a file descriptor, or -1) as "operation path". */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, NAME = 4, READ = 8 };                 /* kinds of operations */
enum { COUNT = 0, KILL = 1, TORN = 2, FULL = 3, BROKEN = 4 };     /* kinds of faults */

static char pattern[PATH_MAX];
static int operations, fault, log_descriptor = -1;
static long target = -1;
static atomic_long counted;
static atomic_int is_full, is_armed;
static int clock_jumps;

void fault_arm(const char *text, int which, int what, long at, int log) {
    snprintf(pattern, sizeof pattern, "%s", text);
    operations = which, fault = what, target = at, log_descriptor = log;
    atomic_store(&counted, 0), atomic_store(&is_full, 0), atomic_store(&is_armed, 1);
}

long fault_count(void) { return atomic_load(&counted); }
void fault_jump_clock(void) { clock_jumps = 1; }

#define REAL(result, name, ...)                                               \
    static result (*real)(__VA_ARGS__);                                      \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

/* 0 to go on, -1 to tear the write and die, or the error number to fail with. */
static int meet(int operation, const char *name, const char *path) {
    if (!path || !(operation & operations) || !strstr(path, pattern)) return 0;
    long number = atomic_fetch_add(&counted, 1) + 1;
    if (log_descriptor >= 0) dprintf(log_descriptor, "%s %s\n", name, path);
    if (number == target) {
        if (fault == KILL) die();
        if (fault == TORN) { if (operation == WRITE) return -1; die(); }
        if (fault == BROKEN) return EIO;
        if (fault == FULL) atomic_store(&is_full, 1);
    }
    return atomic_load(&is_full) && operation == WRITE ? ENOSPC : 0;
}

static int meet_open(int operation, const char *name, int descriptor) {
    if (!atomic_load(&is_armed) || !(operation & operations) || descriptor == log_descriptor) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return meet(operation, name, path);
}

static int meet_named(const char *name, const char *path) {
    return atomic_load(&is_armed) ? meet(NAME, name, path) : 0;
}

#define FAIL_IF(code, failed) do { int number = (code); if (number > 0) { errno = number; return failed; } } while (0)

ssize_t write(int descriptor, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    int met = meet_open(WRITE, "write", descriptor);
    if (met < 0) { real(descriptor, data, size / 2); die(); }
    FAIL_IF(met, -1);
    return real(descriptor, data, size);
}

#define PWRITE(name)                                                          \
    ssize_t name(int descriptor, const void *data, size_t size, off_t offset) { \
        REAL(ssize_t, #name, int, const void *, size_t, off_t);               \
        int met = meet_open(WRITE, #name, descriptor);                        \
        if (met < 0) { real(descriptor, data, size / 2, offset); die(); }     \
        FAIL_IF(met, -1);                                                     \
        return real(descriptor, data, size, offset);                          \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    int met = meet_open(WRITE, "writev", descriptor);
    if (met < 0) { real(descriptor, parts, count / 2); die(); }
    FAIL_IF(met, -1);
    return real(descriptor, parts, count);
}

size_t fwrite(const void *data, size_t size, size_t count, FILE *file) {
    REAL(size_t, "fwrite", const void *, size_t, size_t, FILE *);
    int met = meet_open(WRITE, "fwrite", fileno(file));
    if (met < 0) { real(data, size, count / 2, file); fflush(file); die(); }
    FAIL_IF(met, 0);
    return real(data, size, count, file);
}

#define ALLOCATE(name)                                                        \
    int name(int descriptor, off_t offset, off_t length) {                    \
        REAL(int, #name, int, off_t, off_t);                                  \
        int met = meet_open(WRITE, #name, descriptor);                        \
        if (met < 0) die();                                                   \
        return met ? met : real(descriptor, offset, length);                  \
    }
ALLOCATE(posix_fallocate)
ALLOCATE(posix_fallocate64)

#define ON_DESCRIPTOR(name, kind)                                             \
    int name(int descriptor) {                                                \
        REAL(int, #name, int);                                                \
        int met = meet_open(kind, #name, descriptor);                         \
        if (met < 0) die();                                                   \
        FAIL_IF(met, -1);                                                     \
        return real(descriptor);                                              \
    }
ON_DESCRIPTOR(fsync, SYNC)
ON_DESCRIPTOR(fdatasync, SYNC)

#define READS(name)                                                           \
    ssize_t name(int descriptor, void *data, size_t size) {                   \
        REAL(ssize_t, #name, int, void *, size_t);                            \
        FAIL_IF(meet_open(READ, #name, descriptor), -1);                      \
        return real(descriptor, data, size);                                  \
    }
READS(read)

#define PREAD(name)                                                           \
    ssize_t name(int descriptor, void *data, size_t size, off_t offset) {     \
        REAL(ssize_t, #name, int, void *, size_t, off_t);                     \
        FAIL_IF(meet_open(READ, #name, descriptor), -1);                      \
        return real(descriptor, data, size, offset);                          \
    }
PREAD(pread)
PREAD(pread64)

#define ON_PATH(name)                                                         \
    int name(const char *path) {                                              \
        REAL(int, #name, const char *);                                       \
        FAIL_IF(meet_named(#name, path), -1);                                 \
        return real(path);                                                    \
    }
ON_PATH(unlink)
ON_PATH(rmdir)

int unlinkat(int folder, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    FAIL_IF(meet_open(NAME, "unlinkat", folder), -1);
    return real(folder, path, flags);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    FAIL_IF(atomic_load(&is_armed) ? meet(WRITE, "mkdir", path) : 0, -1);
    return real(path, mode);
}

#define TWO_PATHS(name)                                                       \
    int name(const char *from, const char *to) {                              \
        REAL(int, #name, const char *, const char *);                         \
        FAIL_IF(meet_named(#name, to), -1);                                   \
        return real(from, to);                                                \
    }
TWO_PATHS(rename)
TWO_PATHS(link)

int clock_gettime(clockid_t which, struct timespec *time) {
    REAL(int, "clock_gettime", clockid_t, struct timespec *);
    int failed = real(which, time);
    if (!failed && clock_jumps && which == CLOCK_REALTIME) {  /* up to sixteen years to either side */
        unsigned long hash = (unsigned long)time->tv_nsec * 2654435761u;
        time->tv_sec += (long)(hash % 1000000000u) - 500000000;
    }
    return failed;
}
