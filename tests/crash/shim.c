/* Stands between a program and the disk: logs what is done to the files of one directory, and lets it fail.

   Loaded with LD_PRELOAD; does nothing until crash_arm(). Every call on a file below the directory is one record in
   the log: head, path, bytes. The log is written with plain system calls, so it is never logged itself; a mark is a
   record of the program's own, and tells what it had said by then.

   A failing call does what the disk would have done: a failed sync has written nothing, and says so once only; a
   failed synchronous write may be seen and is not safe; a write that fails short has written its first half.

   Not thread-safe; the store does all of its work on one thread. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SYNC, TRUNCATE, CREATE, RENAME, UNLINK, MKDIR, MARK, FAILED };
enum { SYNCHRONOUS = 1, LOST = 2 }; /* of a write: O_DSYNC; of a write or sync: it failed */

struct head {
    uint32_t kind, flags, path, reserved;
    uint64_t offset, size;
};

static int log_fd = -1;
static char root[PATH_MAX];
static size_t root_length;
static long countdown; /* calls until one fails; 0: none will */
static int failure;    /* errno of it; -1: a short write */

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void record(int kind, int flags, const char *path, uint64_t offset, const void *data, uint64_t size) {
    struct head head = {kind, flags, strlen(path), 0, offset, data ? size : 0};
    struct iovec parts[3] = {{&head, sizeof head}, {(void *)path, head.path}, {(void *)data, head.size}};
    if (!data && kind == TRUNCATE) head.offset = size;
    if (log_fd >= 0) syscall(SYS_writev, log_fd, parts, 3);
}

/* The path of a file below the directory, relative to it; NULL for any other. */
static const char *below(const char *path) {
    if (log_fd < 0 || strncmp(path, root, root_length)) return NULL;
    if (!path[root_length]) return ".";
    return path[root_length] == '/' ? path + root_length + 1 : NULL;
}

static const char *path_of(int fd) {
    static char target[PATH_MAX];
    char link[64];
    if (log_fd < 0 || fd == log_fd) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlink, link, target, sizeof target - 1);
    if (length < 0) return NULL;
    target[length] = 0;
    return below(target);
}

/* Counts one call; nonzero if it is the one that fails. */
static int fails(int writes, const char *path) {
    if (!countdown || (!writes && failure != EIO) || (writes < 2 && failure < 0) || --countdown) return 0;
    record(FAILED, 0, path, 0, NULL, 0);
    return failure;
}

/* -- what the program says ------------------------------------------------------------------------------ */

void crash_arm(const char *directory, int log, long nth, int code) {
    snprintf(root, sizeof root, "%s", directory);
    root_length = strlen(root);
    log_fd = log, countdown = nth, failure = code;
}

void crash_mark(const char *data, size_t size) { record(MARK, 0, "", 0, data, size); }

/* -- writes --------------------------------------------------------------------------------------------- */

static ssize_t put(int fd, const char *path, const struct iovec *parts, int count, off_t offset, int moves) {
    ssize_t size = 0, done;
    for (int i = 0; i < count; i++) size += parts[i].iov_len;
    char *data = malloc(size + 1), *end = data;
    for (int i = 0; i < count; i++) end = mempcpy(end, parts[i].iov_base, parts[i].iov_len);
    int mode = fcntl(fd, F_GETFL), flags = (mode & O_DSYNC) ? SYNCHRONOUS : 0, code = fails(2, path);
    if (code > 0 && !(code == EIO && flags)) {
        free(data);
        return errno = code, -1;
    }
    if (code < 0) size /= 2, flags &= ~SYNCHRONOUS;
    done = syscall(SYS_pwrite64, fd, data, size, offset);
    int error = errno;
    if (done > 0) record(WRITE, flags | (code > 0 ? LOST : 0), path, offset, data, done);
    if (done > 0 && moves) syscall(SYS_lseek, fd, offset + done, SEEK_SET);
    free(data);
    if (code > 0) return errno = code, -1;
    return errno = error, done;
}

static off_t place(int fd) {
    return fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    const char *path = path_of(fd);
    if (!path) return REAL(pwrite)(fd, data, size, offset);
    return put(fd, path, &(struct iovec){(void *)data, size}, 1, offset, 0);
}

ssize_t write(int fd, const void *data, size_t size) {
    const char *path = path_of(fd);
    if (!path) return syscall(SYS_write, fd, data, size);
    return put(fd, path, &(struct iovec){(void *)data, size}, 1, place(fd), 1);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    const char *path = path_of(fd);
    if (!path) return REAL(writev)(fd, parts, count);
    return put(fd, path, parts, count, place(fd), 1);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    const char *path = path_of(fd);
    if (!path) return REAL(pwritev)(fd, parts, count, offset);
    return put(fd, path, parts, count, offset, 0);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) { return pwrite(fd, data, size, offset); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) {
    return pwritev(fd, parts, count, offset);
}

int ftruncate(int fd, off_t size) {
    const char *path = path_of(fd);
    int code = path ? fails(1, path) : 0;
    if (code > 0) return errno = code, -1;
    int done = syscall(SYS_ftruncate, fd, size);
    if (!done && path) record(TRUNCATE, 0, path, 0, NULL, size);
    return done;
}

int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

/* -- syncs ---------------------------------------------------------------------------------------------- */

static int sync_file(int fd, long number) {
    const char *path = path_of(fd);
    int code = path ? fails(1, path) : 0;
    if (code > 0) return record(SYNC, LOST, path, 0, NULL, 0), errno = code, -1;
    int done = syscall(number, fd);
    if (!done && path) record(SYNC, 0, path, 0, NULL, 0);
    return done;
}

int fsync(int fd) { return sync_file(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

/* -- names ---------------------------------------------------------------------------------------------- */

static int open_file(const char *path, int flags, mode_t mode) {
    const char *name = below(path);
    struct stat found;
    int makes = name && (flags & O_CREAT) && syscall(SYS_newfstatat, AT_FDCWD, path, &found, AT_SYMLINK_NOFOLLOW);
    int code = name ? fails(makes, name) : 0;
    if (code > 0) return errno = code, -1;
    int fd = syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && makes) record(CREATE, 0, name, 0, NULL, 0);
    if (fd >= 0 && name && !makes && (flags & O_TRUNC)) record(TRUNCATE, 0, name, 0, NULL, 0);
    return fd;
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return open_file(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return open_file(path, flags, mode);
}

int rename(const char *from, const char *to) {
    const char *name = below(to);
    int code = name ? fails(1, name) : 0;
    if (code > 0) return errno = code, -1;
    int done = syscall(SYS_rename, from, to);
    if (!done && name && below(from)) record(RENAME, 0, below(from), 0, name, strlen(name));
    return done;
}

int unlink(const char *path) {
    const char *name = below(path);
    int code = name ? fails(1, name) : 0;
    if (code > 0) return errno = code, -1;
    int done = syscall(SYS_unlink, path);
    if (!done && name) record(UNLINK, 0, name, 0, NULL, 0);
    return done;
}

int mkdir(const char *path, mode_t mode) {
    const char *name = below(path);
    int code = name ? fails(1, name) : 0;
    if (code > 0) return errno = code, -1;
    int done = syscall(SYS_mkdir, path, mode);
    if (!done && name) record(MKDIR, 0, name, 0, NULL, 0);
    return done;
}

/* -- reads ---------------------------------------------------------------------------------------------- */

ssize_t pread(int fd, void *data, size_t size, off_t offset) {
    const char *path = path_of(fd);
    int code = path ? fails(0, path) : 0;
    if (code > 0) return errno = code, -1;
    return syscall(SYS_pread64, fd, data, size, offset);
}

ssize_t pread64(int fd, void *data, size_t size, off_t offset) { return pread(fd, data, size, offset); }

ssize_t read(int fd, void *data, size_t size) {
    const char *path = path_of(fd);
    int code = path ? fails(0, path) : 0;
    if (code > 0) return errno = code, -1;
    return syscall(SYS_read, fd, data, size);
}
