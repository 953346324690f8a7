/*
 * A shim between a program and the file system: it writes a line for each call that changes a file or makes one
 * durable, and has chosen calls fail, or kill the process, as its rules say. Loaded by LD_PRELOAD; made and driven
 * by shim.py.
 *
 * CHAOS_RULES names a file of rules, one in a line, five words with spaces between them:
 *
 *     CALL GLOB FIRST TIMES ACTION
 *
 *     CALL    the name of a call as it is logged (fsync, rename, ...), or *
 *     GLOB    of the whole path, as in fnmatch(3), where * matches / too; of two paths either may match
 *     FIRST   the number of the first call that fails, of those that match, from 1
 *     TIMES   how many fail from there on; 0 means all
 *     ACTION  the name of an error, with which the call fails without being done, or KILL, for SIGKILL before it
 *
 * CHAOS_CLOCK names a file with a number of seconds, by which the wall clock is ahead. With CHAOS_DATA each write is followed by a line "PID bytes HEX", for the model of a power cut.
 *
 * The file is read at each call, so a rule may come and go while the program runs. Calls are counted for each line and
 * process; the count begins again when the file changes. CHAOS_LOG names a file to which every call is added before
 * it is done, as "PID CALL PATH [PATH]". Calls on paths that do not match CHAOS_SCOPE, a glob, are let through unseen.
 *
 * glibc's names with and without 64 are one call here, and so are those with a directory's descriptor and those without.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define RULES 32
#define LONGEST (2 * PATH_MAX + 64)

static const struct { const char *name; int number; } errors[] = {
    {"EACCES", EACCES}, {"EDQUOT", EDQUOT}, {"EINTR", EINTR}, {"EIO", EIO}, {"EMFILE", EMFILE}, {"EMLINK", EMLINK},
    {"ENOSPC", ENOSPC}, {"EOPNOTSUPP", EOPNOTSUPP}, {"EPERM", EPERM}, {"EROFS", EROFS}, {"EXDEV", EXDEV},
};

static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;
static char known[8192];
static unsigned long counts[RULES];

/* The shim's own files are opened by the kernel's call: what is below is for the program. */
static int raw_open(const char *path, int flags) { return syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0644); }

static void absolute(int directory, const char *path, char *into) {
    char link[64], base[PATH_MAX] = "";
    if (path != NULL && path[0] == '/') {
        snprintf(into, PATH_MAX, "%s", path);
        return;
    }
    if (directory == AT_FDCWD) {
        if (getcwd(base, sizeof base) == NULL) base[0] = '\0';
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
        ssize_t length = readlink(link, base, sizeof base - 1);
        base[length < 0 ? 0 : length] = '\0';
    }
    if (path == NULL || path[0] == '\0') snprintf(into, PATH_MAX, "%s", base);
    else snprintf(into, PATH_MAX, "%.2047s/%.2047s", base, path);
}

static void note(const char *call, const char *one, const char *other) {
    const char *file = getenv("CHAOS_LOG");
    char line[LONGEST];
    if (file == NULL) return;
    int descriptor = raw_open(file, O_WRONLY | O_APPEND | O_CREAT);
    if (descriptor < 0) return;
    int length = snprintf(line, sizeof line, "%d %s %s%s%s\n", getpid(), call, one, other[0] ? " " : "", other);
    syscall(SYS_write, descriptor, line, (size_t)length);
    syscall(SYS_close, descriptor);
}

static void note_bytes(const unsigned char *bytes, size_t count) {
    char *hex = malloc(2 * count + 1);
    if (hex == NULL) abort();
    for (size_t i = 0; i < count; i++) sprintf(hex + 2 * i, "%02x", bytes[i]);
    hex[2 * count] = '\0';
    const char *file = getenv("CHAOS_LOG");
    int descriptor = file == NULL ? -1 : raw_open(file, O_WRONLY | O_APPEND | O_CREAT);
    if (descriptor >= 0) {
        dprintf(descriptor, "%d bytes %s\n", getpid(), hex);
        syscall(SYS_close, descriptor);
    }
    free(hex);
}

static int act(const char *action) {
    if (strcmp(action, "KILL") == 0) kill(getpid(), SIGKILL);
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (strcmp(errors[i].name, action) == 0) return errors[i].number;
    fprintf(stderr, "shim: no such action: %s\n", action);
    abort();
}

static int is_in_scope(const char *one, const char *other) {
    const char *scope = getenv("CHAOS_SCOPE");
    return scope == NULL || fnmatch(scope, one, 0) == 0 || (other[0] && fnmatch(scope, other, 0) == 0);
}

/* Return the number of the error with which a call is to fail; 0 where it is to be done. */
static int judge(const char *call, const char *one, const char *other) {
    const char *file = getenv("CHAOS_RULES");
    char text[sizeof known] = "", name[32], glob[PATH_MAX], action[32], *line, *rest;
    unsigned long first, times;
    int verdict = 0, row = 0;
    if (!is_in_scope(one, other)) return 0;
    note(call, one, other);
    if (file == NULL) return 0;
    int descriptor = raw_open(file, O_RDONLY);
    if (descriptor < 0) return 0;
    ssize_t length = syscall(SYS_read, descriptor, text, sizeof text - 1);
    syscall(SYS_close, descriptor);
    text[length < 0 ? 0 : length] = '\0';
    pthread_mutex_lock(&counting);
    if (strcmp(text, known) != 0) {
        strcpy(known, text);
        memset(counts, 0, sizeof counts);
    }
    for (line = strtok_r(text, "\n", &rest); line != NULL && row < RULES; line = strtok_r(NULL, "\n", &rest), row++) {
        if (sscanf(line, "%31s %4095s %lu %lu %31s", name, glob, &first, &times, action) != 5) continue;
        if (strcmp(name, "*") != 0 && strcmp(name, call) != 0) continue;
        if (fnmatch(glob, one, 0) != 0 && (!other[0] || fnmatch(glob, other, 0) != 0)) continue;
        counts[row]++;
        if (counts[row] >= first && (times == 0 || counts[row] < first + times) && !verdict) verdict = act(action);
    }
    pthread_mutex_unlock(&counting);
    return verdict;
}

static int refuse(const char *call, int directory, const char *path, int other_directory, const char *other_path) {
    char one[PATH_MAX], other[PATH_MAX] = "";
    int before = errno, verdict;
    absolute(directory, path, one);
    if (other_path != NULL) absolute(other_directory, other_path, other);
    verdict = judge(call, one, other);
    errno = verdict ? verdict : before;
    return verdict;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ON_FILE(call, descriptor) refuse(call, descriptor, "", 0, NULL)
#define ON_PATH(call, path) refuse(call, AT_FDCWD, path, 0, NULL)

/* Opening is a change only where it may make or cut a file; otherwise it is called "open-read". */
static int opening(int directory, const char *path, int flags) {
    int writes = flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR);
    return refuse(writes ? "open" : "open-read", directory, path, 0, NULL);
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) {
    MODE(flags)
    return opening(AT_FDCWD, path, flags) ? -1 : REAL(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags)
    return opening(AT_FDCWD, path, flags) ? -1 : REAL(open64)(path, flags, mode);
}
int openat(int directory, const char *path, int flags, ...) {
    MODE(flags)
    return opening(directory, path, flags) ? -1 : REAL(openat)(directory, path, flags, mode);
}
int openat64(int directory, const char *path, int flags, ...) {
    MODE(flags)
    return opening(directory, path, flags) ? -1 : REAL(openat64)(directory, path, flags, mode);
}

/* The wall clock, by as many seconds ahead as the file CHAOS_CLOCK says. */
int clock_gettime(clockid_t clock, struct timespec *now) {
    char text[32] = "";
    const char *file = getenv("CHAOS_CLOCK");
    int result = REAL(clock_gettime)(clock, now), descriptor;
    if (result != 0 || clock != CLOCK_REALTIME || file == NULL || (descriptor = raw_open(file, O_RDONLY)) < 0) return result;
    if (syscall(SYS_read, descriptor, text, sizeof text - 1) > 0) now->tv_sec += atol(text);
    syscall(SYS_close, descriptor);
    return result;
}

DIR *opendir(const char *path) { return ON_PATH("open-read", path) ? NULL : REAL(opendir)(path); }

ssize_t write(int file, const void *bytes, size_t count) {
    if (ON_FILE("write", file)) return -1;
    ssize_t done = REAL(write)(file, bytes, count);
    char path[PATH_MAX];
    if (done < 0 || getenv("CHAOS_DATA") == NULL) return done;
    absolute(file, "", path);
    if (is_in_scope(path, "")) note_bytes(bytes, (size_t)done);
    return done;
}
int fsync(int file) { return ON_FILE("fsync", file) ? -1 : REAL(fsync)(file); }
int fdatasync(int file) { return ON_FILE("fsync", file) ? -1 : REAL(fdatasync)(file); }
int syncfs(int file) { return ON_FILE("syncfs", file) ? -1 : REAL(syncfs)(file); }
int ftruncate(int file, off_t size) { return ON_FILE("truncate", file) ? -1 : REAL(ftruncate)(file, size); }
int ftruncate64(int file, off64_t size) { return ON_FILE("truncate", file) ? -1 : REAL(ftruncate64)(file, size); }
int fchmod(int file, mode_t mode) { return ON_FILE("chmod", file) ? -1 : REAL(fchmod)(file, mode); }

int chmod(const char *path, mode_t mode) { return ON_PATH("chmod", path) ? -1 : REAL(chmod)(path, mode); }
int fchmodat(int directory, const char *path, mode_t mode, int flags) {
    return refuse("chmod", directory, path, 0, NULL) ? -1 : REAL(fchmodat)(directory, path, mode, flags);
}
int mkdir(const char *path, mode_t mode) { return ON_PATH("mkdir", path) ? -1 : REAL(mkdir)(path, mode); }
int mkdirat(int directory, const char *path, mode_t mode) {
    return refuse("mkdir", directory, path, 0, NULL) ? -1 : REAL(mkdirat)(directory, path, mode);
}
int rmdir(const char *path) { return ON_PATH("rmdir", path) ? -1 : REAL(rmdir)(path); }
int unlink(const char *path) { return ON_PATH("unlink", path) ? -1 : REAL(unlink)(path); }
int unlinkat(int directory, const char *path, int flags) {
    const char *call = flags & AT_REMOVEDIR ? "rmdir" : "unlink";
    return refuse(call, directory, path, 0, NULL) ? -1 : REAL(unlinkat)(directory, path, flags);
}
int symlink(const char *target, const char *path) { return ON_PATH("symlink", path) ? -1 : REAL(symlink)(target, path); }
int symlinkat(const char *target, int directory, const char *path) {
    return refuse("symlink", directory, path, 0, NULL) ? -1 : REAL(symlinkat)(target, directory, path);
}
int link(const char *from, const char *to) {
    return refuse("link", AT_FDCWD, from, AT_FDCWD, to) ? -1 : REAL(link)(from, to);
}
int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags) {
    int verdict = refuse("link", from_directory, from, to_directory, to);
    return verdict ? -1 : REAL(linkat)(from_directory, from, to_directory, to, flags);
}
int rename(const char *from, const char *to) {
    return refuse("rename", AT_FDCWD, from, AT_FDCWD, to) ? -1 : REAL(rename)(from, to);
}
int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    int verdict = refuse("rename", from_directory, from, to_directory, to);
    return verdict ? -1 : REAL(renameat)(from_directory, from, to_directory, to);
}
