/*
 * Stand-ins for the parts of virtdisk.dll and kernel32.dll that the C# of the host scripts calls, so that it runs
 * unchanged on Linux (.NET loads virtdisk.dll.so and kernel32.dll.so; both are this library).
 *
 * A handle is a Unix socket to the model's service (HVPS_SIM_SOCKET). .NET closes it as a file descriptor, which
 * tells the model that the disk was released. Attaching fetches a table of extents and the sparse files that
 * hold them; reads use pread on those files, so no data of disks crosses the socket. A read is pending (errno
 * 997, as Marshal.GetLastWin32Error sees it) and completed later by a worker thread, like overlapped I/O on
 * Windows. A page shared with the model has knobs and tells when to ask the model before a read.
 *
 * The other end of the protocol is hvpsbridge/sim/disk_protocol.py. All integers are little endian.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

typedef uint16_t wchar;

enum {
    E_FILE_NOT_FOUND = 2,
    E_INVALID_HANDLE = 6,
    E_OUT_OF_MEMORY = 8,
    E_SECTOR_NOT_FOUND = 27,
    E_HANDLE_EOF = 38,
    E_INVALID_PARAMETER = 87,
    E_INSUFFICIENT_BUFFER = 122,
    E_IO_INCOMPLETE = 996,
    E_IO_PENDING = 997,
    E_IO_DEVICE = 1117,
};

enum { OP_HELLO = 1, OP_OPEN, OP_ATTACH, OP_DETACH, OP_INFO, OP_QUERY, OP_OPEN_FILE, OP_READ_CHECK, OP_WRITE,
       OP_CREATE_FILE, OP_WRITE_FILE, OP_SET_END, OP_FLUSH, OP_CONTROL, OP_PATH };

enum { MAX_HANDLES = 65536, WORKERS = 4, BUCKETS = 64, MAX_REPLY = 1 << 30 };

/* Results of a read check. */
enum { READ_GOOD = 0, READ_SHORT = 1, READ_CORRUPT = 2, READ_FAILS = 3 };

/* Shared with the model: disk_protocol.py writes it. */
struct page {
    uint32_t ask;         /* not 0: ask the model before each read */
    uint32_t delay_us;    /* delay before a buffer is filled */
    uint32_t sync_share;  /* per mille of reads that complete at once */
    uint32_t reserved;
};

struct segment {
    uint64_t offset, length, source;  /* source: offset in the file */
    uint32_t file, reserved;
};

#define BAD_FILE 0xFFFFFFFFu /* a segment whose reading fails */

struct table {
    uint64_t size;
    uint32_t sector; /* 0 for a file */
    uint32_t files, segments;
    int *descriptors;
    struct segment *segment;
    int references;
};

struct handle {
    int fd;
    int is_file;
    int writable; /* opened to write; only a VM that is off has such disks */
    int is_raw;   /* the disk that the host sees for an attached handle; it shares that handle's socket */
    uint64_t position; /* of reads and writes without OVERLAPPED */
    int backing;       /* descriptor of the file that a handle writes, and 1; 0 for other handles */
    struct table *table;
    pthread_mutex_t talking;
    int references;
};

struct overlapped {
    uint64_t internal, internal_high;
    uint32_t offset, offset_high;
    uint64_t event;
};

struct request {
    struct handle *handle;
    struct table *table;
    struct overlapped *overlapped;
    uint8_t *buffer;
    uint64_t offset;
    uint32_t count;
    struct request *next;
};

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct handle *registry[MAX_HANDLES];
static struct page no_page;
static struct page *page = &no_page;

static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queue_filled = PTHREAD_COND_INITIALIZER;
static struct request *queue_head, **queue_tail = &queue_head;
static int workers_started;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t done;
} bucket[BUCKETS];

/* -- text ----------------------------------------------------------------------------------------- */

/* UTF-16 to UTF-8; the caller frees it. Unpaired surrogates are kept; the model then finds no file. */
static char *utf8(const wchar *text) {
    size_t length = 0, at = 0;
    while (text[length]) length++;
    char *out = malloc(length * 3 + 1);
    if (!out) return NULL;
    for (size_t i = 0; i < length; i++) {
        uint32_t c = text[i];
        if (c >= 0xD800 && c < 0xDC00 && i + 1 < length && text[i + 1] >= 0xDC00 && text[i + 1] < 0xE000)
            c = 0x10000 + ((c - 0xD800) << 10) + (text[++i] - 0xDC00);
        if (c < 0x80) {
            out[at++] = (char)c;
        } else if (c < 0x800) {
            out[at++] = (char)(0xC0 | c >> 6);
            out[at++] = (char)(0x80 | (c & 0x3F));
        } else if (c < 0x10000) {
            out[at++] = (char)(0xE0 | c >> 12);
            out[at++] = (char)(0x80 | (c >> 6 & 0x3F));
            out[at++] = (char)(0x80 | (c & 0x3F));
        } else {
            out[at++] = (char)(0xF0 | c >> 18);
            out[at++] = (char)(0x80 | (c >> 12 & 0x3F));
            out[at++] = (char)(0x80 | (c >> 6 & 0x3F));
            out[at++] = (char)(0x80 | (c & 0x3F));
        }
    }
    out[at] = 0;
    return out;
}

/* -- the socket ----------------------------------------------------------------------------------- */

static int send_all(int fd, const void *data, size_t length) {
    const char *at = data;
    while (length) {
        ssize_t done = send(fd, at, length, MSG_NOSIGNAL);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return -1;
        at += done;
        length -= (size_t)done;
    }
    return 0;
}

static int receive_all(int fd, void *data, size_t length) {
    char *at = data;
    while (length) {
        ssize_t done = recv(fd, at, length, 0);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return -1;
        at += done;
        length -= (size_t)done;
    }
    return 0;
}

/* One request and its reply. Returns the model's Win32 code. If 0, the caller frees *reply of *reply_length bytes. */
static uint32_t ask(int fd, pthread_mutex_t *talking, uint32_t op, const void *body, uint32_t length,
                    uint8_t **reply, uint32_t *reply_length) {
    uint32_t head[2] = {length, op}, answer[2];
    uint8_t *data = NULL;
    uint32_t code = E_INVALID_HANDLE;
    if (talking) pthread_mutex_lock(talking);
    if (send_all(fd, head, sizeof head) || send_all(fd, body, length) || receive_all(fd, answer, sizeof answer))
        goto out;
    if (answer[0] > MAX_REPLY || !(data = malloc(answer[0] + 1u))) {
        code = E_OUT_OF_MEMORY;
        goto out;
    }
    if (receive_all(fd, data, answer[0])) goto out;
    code = answer[1];
out:
    if (talking) pthread_mutex_unlock(talking);
    if (code || !reply) {
        free(data);
    } else {
        *reply = data;
        *reply_length = answer[0];
    }
    return code;
}

static void share_page(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof *page, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED) page = mapped;
}

static int connect_model(void) {
    const char *path = getenv("HVPS_SIM_SOCKET"), *node = getenv("HVPS_SIM_NODE");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint8_t *reply;
    uint32_t length;
    if (!path || strlen(path) >= sizeof address.sun_path) return -1;
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    if (!node) node = "";
    if (fd >= MAX_HANDLES || connect(fd, (struct sockaddr *)&address, sizeof address) ||
        ask(fd, NULL, OP_HELLO, node, (uint32_t)strlen(node), &reply, &length)) {
        close(fd);
        return -1;
    }
    reply[length] = 0;
    pthread_mutex_lock(&registry_lock);
    if (page == &no_page) share_page((char *)reply);
    pthread_mutex_unlock(&registry_lock);
    free(reply);
    return fd;
}

/* -- handles and tables --------------------------------------------------------------------------- */

static void drop_table(struct table *table) {
    if (!table || __atomic_sub_fetch(&table->references, 1, __ATOMIC_ACQ_REL)) return;
    for (uint32_t i = 0; i < table->files; i++)
        if (table->descriptors[i] >= 0) close(table->descriptors[i]);
    free(table->descriptors);
    free(table->segment);
    free(table);
}

static void drop_handle(struct handle *handle) {
    if (!handle || __atomic_sub_fetch(&handle->references, 1, __ATOMIC_ACQ_REL)) return;
    drop_table(handle->table);
    if (handle->backing) close(handle->backing - 1);
    pthread_mutex_destroy(&handle->talking);
    free(handle);
}

/* The handle of a descriptor, held until drop_handle. A stale one is replaced when its number is reused. */
static struct handle *hold(intptr_t fd) {
    struct handle *found = NULL;
    if (fd < 0 || fd >= MAX_HANDLES) return NULL;
    pthread_mutex_lock(&registry_lock);
    found = registry[fd];
    if (found) __atomic_add_fetch(&found->references, 1, __ATOMIC_ACQ_REL);
    pthread_mutex_unlock(&registry_lock);
    return found;
}

static struct handle *new_handle(int fd, int is_file) {
    struct handle *handle = calloc(1, sizeof *handle), *old;
    if (!handle) return NULL;
    handle->fd = fd;
    handle->is_file = is_file;
    handle->references = 1;
    pthread_mutex_init(&handle->talking, NULL);
    pthread_mutex_lock(&registry_lock);
    old = registry[fd];
    registry[fd] = handle;
    pthread_mutex_unlock(&registry_lock);
    drop_handle(old);
    return handle;
}

/* Table from a reply: u64 size, u32 sector, u32 files, u32 segments, u32 0, names (u32 length, bytes), segments. */
static struct table *read_table(const uint8_t *reply, uint32_t length) {
    const uint8_t *at = reply, *end = reply + length;
    struct table *table = calloc(1, sizeof *table);
    if (!table || length < 24) goto bad;
    table->references = 1;
    memcpy(&table->size, at, 8);
    memcpy(&table->sector, at + 8, 4);
    uint32_t files, segments;
    memcpy(&files, at + 12, 4);
    memcpy(&segments, at + 16, 4);
    at += 24;
    table->descriptors = calloc(files + 1u, sizeof *table->descriptors);
    if (!table->descriptors) goto bad;
    for (; table->files < files; table->files++) {
        uint32_t name_length;
        char name[4096];
        if (end - at < 4) goto bad;
        memcpy(&name_length, at, 4);
        at += 4;
        if (name_length >= sizeof name || (uint64_t)(end - at) < name_length) goto bad;
        memcpy(name, at, name_length);
        name[name_length] = 0;
        at += name_length;
        table->descriptors[table->files] = open(name, O_RDONLY | O_CLOEXEC);
    }
    if ((uint64_t)(end - at) != (uint64_t)segments * sizeof(struct segment)) goto bad;
    table->segment = malloc(segments * sizeof(struct segment) + 1);
    if (!table->segment) goto bad;
    memcpy(table->segment, at, segments * sizeof(struct segment));
    table->segments = segments;
    return table;
bad:
    drop_table(table);
    return NULL;
}

static uint32_t fetch_table(struct handle *handle, uint32_t op, const void *body, uint32_t length) {
    uint8_t *reply;
    uint32_t reply_length, code = ask(handle->fd, &handle->talking, op, body, length, &reply, &reply_length);
    if (code) return code;
    struct table *table = read_table(reply, reply_length), *old;
    free(reply);
    if (!table) return E_OUT_OF_MEMORY;
    pthread_mutex_lock(&registry_lock);
    old = handle->table;
    handle->table = table;
    pthread_mutex_unlock(&registry_lock);
    drop_table(old);
    return 0;
}

/* -- reading -------------------------------------------------------------------------------------- */

/* First segment that ends after `offset`. */
static uint32_t find_segment(const struct table *table, uint64_t offset) {
    uint32_t low = 0, high = table->segments;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (table->segment[middle].offset + table->segment[middle].length <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Fill a buffer; bytes outside of segments are zeros. Returns a Win32 code. */
static uint32_t fill(const struct table *table, uint8_t *buffer, uint64_t offset, uint64_t count) {
    uint64_t end = offset + count;
    for (uint32_t i = find_segment(table, offset); offset < end; i++) {
        const struct segment *segment = i < table->segments ? &table->segment[i] : NULL;
        uint64_t start = segment && segment->offset < end ? segment->offset : end;
        if (start > offset) {
            memset(buffer, 0, start - offset);
            buffer += start - offset;
            offset = start;
        }
        if (offset == end) break;
        if (segment->file == BAD_FILE) return E_IO_DEVICE;
        uint64_t length = segment->offset + segment->length - offset;
        if (length > end - offset) length = end - offset;
        uint64_t source = segment->source + (offset - segment->offset);
        for (uint64_t done = 0; done < length;) {
            ssize_t got = pread(table->descriptors[segment->file], buffer + done, length - done,
                                (off_t)(source + done));
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0) return E_IO_DEVICE;
            done += (uint64_t)got;
        }
        buffer += length;
        offset += length;
    }
    return 0;
}

/* One read. *got is the number of bytes read. */
static uint32_t perform(struct handle *handle, struct table *table, uint8_t *buffer, uint64_t offset,
                        uint32_t count, uint32_t *got) {
    uint32_t verdict = READ_GOOD, code;
    *got = 0;
    if (page->ask) {
        uint64_t body[2] = {offset, count};
        uint8_t *reply;
        uint32_t length;
        code = ask(handle->fd, &handle->talking, OP_READ_CHECK, body, sizeof body, &reply, &length);
        if (code) return code;
        if (length >= 4) memcpy(&verdict, reply, 4);
        free(reply);
        if (verdict == READ_FAILS) return E_IO_DEVICE;
    }
    code = fill(table, buffer, offset, count);
    if (code) return code;
    if (verdict == READ_CORRUPT && count) buffer[count - 1] ^= 1;
    *got = verdict == READ_SHORT && count > 512 ? count - 512 : count;
    return 0;
}

static size_t bucket_of(const void *overlapped) { return ((uintptr_t)overlapped >> 5) % BUCKETS; }

static void complete(struct overlapped *overlapped, uint32_t code, uint32_t got) {
    size_t which = bucket_of(overlapped);
    pthread_mutex_lock(&bucket[which].lock);
    overlapped->internal_high = got;
    __atomic_store_n(&overlapped->internal, code, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&bucket[which].done);
    pthread_mutex_unlock(&bucket[which].lock);
}

static const uint64_t STATUS_PENDING = 0x103; /* not a Win32 code that a read can end with */

static void *work(void *unused) {
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&queue_lock);
        while (!queue_head) pthread_cond_wait(&queue_filled, &queue_lock);
        struct request *request = queue_head;
        queue_head = request->next;
        if (!queue_head) queue_tail = &queue_head;
        pthread_mutex_unlock(&queue_lock);
        uint32_t got, delay = page->delay_us;
        if (delay) usleep(delay);
        uint32_t code = perform(request->handle, request->table, request->buffer, request->offset,
                                request->count, &got);
        drop_table(request->table);
        drop_handle(request->handle);
        complete(request->overlapped, code, got);
        free(request);
    }
    return NULL;
}

static void start_workers(void) {
    pthread_attr_t attributes;
    pthread_mutex_lock(&queue_lock);
    if (!workers_started) {
        workers_started = 1;
        for (int i = 0; i < BUCKETS; i++) {
            pthread_mutex_init(&bucket[i].lock, NULL);
            pthread_cond_init(&bucket[i].done, NULL);
        }
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        for (int i = 0; i < WORKERS; i++) {
            pthread_t thread;
            pthread_create(&thread, &attributes, work, NULL);
        }
        pthread_attr_destroy(&attributes);
    }
    pthread_mutex_unlock(&queue_lock);
}

/* -- kernel32.dll --------------------------------------------------------------------------------- */

static int fail(int code) {
    errno = code;
    return 0;
}

/* A number below 1000 that differs from call to call, without a lock. */
static int chance(uint32_t share) {
    static uint32_t counter;
    uint32_t n = __atomic_add_fetch(&counter, 1, __ATOMIC_RELAXED);
    return share && n * 2654435761u % 1000u < share;
}

int ReadFile(intptr_t fd, uint8_t *buffer, uint32_t count, uint32_t *read, struct overlapped *overlapped) {
    struct handle *handle = hold(fd);
    if (!handle) return fail(E_INVALID_HANDLE);
    pthread_mutex_lock(&registry_lock);
    struct table *table = handle->table;
    if (table) __atomic_add_fetch(&table->references, 1, __ATOMIC_ACQ_REL);
    pthread_mutex_unlock(&registry_lock);
    uint64_t offset = overlapped ? (uint64_t)overlapped->offset_high << 32 | overlapped->offset : handle->position;
    int error = 0;
    if (!table) {
        error = E_INVALID_HANDLE;
    } else if (handle->is_file) {
        if (offset >= table->size)
            error = E_HANDLE_EOF;
        else if (count > table->size - offset)
            count = (uint32_t)(table->size - offset);
    } else if (offset % table->sector || count % table->sector) {
        error = E_INVALID_PARAMETER;
    } else if (count > table->size || offset > table->size - count) {
        error = E_SECTOR_NOT_FOUND;
    }
    if (error) {
        drop_table(table);
        drop_handle(handle);
        if (error == E_HANDLE_EOF && !overlapped) { /* a read at the end without OVERLAPPED succeeds with 0 bytes */
            if (read) *read = 0;
            return 1;
        }
        return fail(error);
    }
    start_workers();
    struct request *request = overlapped && !chance(page->sync_share) ? calloc(1, sizeof *request) : NULL;
    if (!request) {
        uint32_t got, code = perform(handle, table, buffer, offset, count, &got);
        if (overlapped) {
            complete(overlapped, code, got);
        } else {
            handle->position += got;
        }
        if (read) *read = got;
        drop_table(table);
        drop_handle(handle);
        return code ? fail((int)code) : 1;
    }
    __atomic_store_n(&overlapped->internal, STATUS_PENDING, __ATOMIC_RELEASE);
    request->handle = handle;
    request->table = table;
    request->overlapped = overlapped;
    request->buffer = buffer;
    request->offset = offset;
    request->count = count;
    pthread_mutex_lock(&queue_lock);
    *queue_tail = request;
    queue_tail = &request->next;
    pthread_cond_signal(&queue_filled);
    pthread_mutex_unlock(&queue_lock);
    return fail(E_IO_PENDING);
}

int GetOverlappedResult(intptr_t fd, struct overlapped *overlapped, uint32_t *got, int wait) {
    (void)fd; /* the handle may be closed during its read; the OVERLAPPED has the result */
    start_workers();
    size_t which = bucket_of(overlapped);
    pthread_mutex_lock(&bucket[which].lock);
    while (wait && overlapped->internal == STATUS_PENDING)
        pthread_cond_wait(&bucket[which].done, &bucket[which].lock);
    uint64_t state = overlapped->internal;
    uint32_t bytes = (uint32_t)overlapped->internal_high;
    pthread_mutex_unlock(&bucket[which].lock);
    if (state == STATUS_PENDING) return fail(E_IO_INCOMPLETE);
    if (got) *got = bytes;
    return state ? fail((int)state) : 1;
}

/* A pending read is never cancelled: it completes, and GetOverlappedResult returns its result. */
int CancelIoEx(intptr_t fd, struct overlapped *overlapped) {
    (void)fd;
    (void)overlapped;
    return 1;
}

int CloseHandle(intptr_t fd) { return close((int)fd) == 0 ? 1 : fail(E_INVALID_HANDLE); }

static const char RAW_DISK[] = "\\\\.\\PhysicalDrive";

/* The raw disk of an attached handle that was opened to write; its number is that handle. */
static intptr_t open_raw(int number) {
    struct handle *handle = hold(number), *raw;
    int fd = handle && handle->writable && handle->table ? fcntl(number, F_DUPFD_CLOEXEC, 0) : -1;
    drop_handle(handle);
    if (fd < 0 || fd >= MAX_HANDLES || !(raw = new_handle(fd, 0))) {
        if (fd >= 0) close(fd);
        errno = E_FILE_NOT_FOUND;
        return -1;
    }
    raw->is_raw = 1;
    return fd;
}

/* A file that is open to write: the model is asked, and the bytes are written here. */
static uint32_t write_backing(struct handle *handle, const uint8_t *buffer, uint32_t count) {
    uint64_t body[2] = {handle->position, count};
    uint32_t code = ask(handle->fd, &handle->talking, OP_WRITE_FILE, body, sizeof body, NULL, NULL);
    for (uint32_t done = 0; !code && done < count;) {
        ssize_t put = pwrite(handle->backing - 1, buffer + done, count - done, (off_t)(handle->position + done));
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return E_IO_DEVICE;
        done += (uint32_t)put;
    }
    return code;
}

/* Bytes of a disk, through the model. */
static uint32_t write_disk(struct handle *handle, const uint8_t *buffer, uint64_t offset, uint32_t count) {
    uint8_t *body = malloc(8 + (size_t)count);
    if (!body) return E_OUT_OF_MEMORY;
    memcpy(body, &offset, 8);
    memcpy(body + 8, buffer, count);
    uint32_t code = ask(handle->fd, &handle->talking, OP_WRITE, body, 8 + count, NULL, NULL);
    free(body);
    return code;
}

int WriteFile(intptr_t fd, const uint8_t *buffer, uint32_t count, uint32_t *written, struct overlapped *overlapped) {
    struct handle *handle = hold(fd);
    uint32_t code = E_INVALID_HANDLE;
    if (handle && handle->is_raw && !overlapped) {
        code = write_disk(handle, buffer, handle->position, count);
        if (!code) handle->position += count;
    }
    if (handle && handle->writable && handle->table && overlapped) { /* attached; it ends at once */
        code = write_disk(handle, buffer, (uint64_t)overlapped->offset_high << 32 | overlapped->offset, count);
        start_workers();
        complete(overlapped, code, code ? 0 : count);
    }
    if (handle && handle->backing && !overlapped) {
        code = write_backing(handle, buffer, count);
        if (!code) handle->position += count;
    }
    drop_handle(handle);
    *written = code ? 0 : count;
    return code ? fail((int)code) : 1;
}

static uint32_t open_backing(struct handle *handle, const char *name, uint32_t disposition) {
    uint32_t length = (uint32_t)strlen(name), reply_length, code = E_OUT_OF_MEMORY;
    uint8_t *reply, *body = malloc(4 + length);
    if (!body) return code;
    memcpy(body, &disposition, 4);
    memcpy(body + 4, name, length);
    code = ask(handle->fd, &handle->talking, OP_CREATE_FILE, body, 4 + length, &reply, &reply_length);
    free(body);
    if (code) return code;
    reply[reply_length] = 0;
    int backing = open((char *)reply, O_WRONLY | O_CLOEXEC);
    free(reply);
    if (backing < 0) return E_FILE_NOT_FOUND;
    handle->backing = backing + 1;
    return 0;
}

intptr_t CreateFileW(const wchar *path, uint32_t access, uint32_t share, void *security, uint32_t disposition,
                     uint32_t flags, intptr_t template_file) {
    (void)security, (void)flags, (void)template_file;
    char *name = utf8(path);
    if (name && !strncmp(name, RAW_DISK, strlen(RAW_DISK))) {
        intptr_t raw = open_raw(atoi(name + strlen(RAW_DISK)));
        free(name);
        return raw;
    }
    int fd = connect_model();
    struct handle *handle;
    uint32_t code = E_FILE_NOT_FOUND;
    if (name && fd >= 0 && access & 0x40000000u && (disposition == 1 || disposition == 3)) { /* GENERIC_WRITE */
        if ((handle = new_handle(fd, 1))) code = open_backing(handle, name, disposition);
    } else if (!name || fd < 0 || disposition != 3) { /* OPEN_EXISTING only: files are never created to be read */
        code = disposition != 3 ? E_INVALID_PARAMETER : E_FILE_NOT_FOUND;
    } else if ((handle = new_handle(fd, 1))) {
        uint32_t name_length = (uint32_t)strlen(name);
        uint8_t *body = malloc(8 + name_length);
        if (body) {
            memcpy(body, &access, 4);
            memcpy(body + 4, &share, 4);
            memcpy(body + 8, name, name_length);
            code = fetch_table(handle, OP_OPEN_FILE, body, 8 + name_length);
            free(body);
        }
    }
    free(name);
    if (!code) return fd;
    if (fd >= 0) close(fd);
    errno = (int)code;
    return -1;
}

intptr_t CreateFile(const wchar *path, uint32_t access, uint32_t share, void *security, uint32_t disposition,
                    uint32_t flags, intptr_t template_file) {
    return CreateFileW(path, access, share, security, disposition, flags, template_file);
}

int GetFileSizeEx(intptr_t fd, int64_t *size) {
    struct handle *handle = hold(fd);
    if (!handle || !handle->table) {
        drop_handle(handle);
        return fail(E_INVALID_HANDLE);
    }
    *size = (int64_t)handle->table->size;
    drop_handle(handle);
    return 1;
}

int SetFilePointerEx(intptr_t fd, int64_t distance, int64_t *result, uint32_t method) {
    struct handle *handle = hold(fd);
    if (handle && (handle->is_raw || handle->backing) && method == 0 && distance >= 0) {
        handle->position = (uint64_t)distance;
        if (result) *result = distance;
        drop_handle(handle);
        return 1;
    }
    if (!handle || !handle->table || method > 2) {
        drop_handle(handle);
        return fail(handle ? E_INVALID_PARAMETER : E_INVALID_HANDLE);
    }
    int64_t base = method == 0 ? 0 : method == 1 ? (int64_t)handle->position : (int64_t)handle->table->size;
    int bad = base + distance < 0;
    if (!bad) {
        handle->position = (uint64_t)(base + distance);
        if (result) *result = base + distance;
    }
    drop_handle(handle);
    return bad ? fail(E_INVALID_PARAMETER) : 1;
}

/* Something that is done to a file that is open to write. */
static int of_backing(intptr_t fd, uint32_t op) {
    struct handle *handle = hold(fd);
    uint32_t code = E_INVALID_HANDLE;
    if (handle && (handle->backing || (handle->writable && handle->table && op == OP_FLUSH)))
        code = ask(handle->fd, &handle->talking, op, &handle->position, 8, NULL, NULL);
    drop_handle(handle);
    return code ? fail((int)code) : 1;
}

int SetEndOfFile(intptr_t fd) { return of_backing(fd, OP_SET_END); }

int FlushFileBuffers(intptr_t fd) { return of_backing(fd, OP_FLUSH); }

/* FSCTL_SET_COMPRESSION with COMPRESSION_FORMAT_NONE only. */
int DeviceIoControl(intptr_t fd, uint32_t control, const uint16_t *input, uint32_t input_bytes, void *output,
                    uint32_t output_bytes, uint32_t *returned, struct overlapped *overlapped) {
    (void)output, (void)output_bytes;
    if (control != 0x9C040 || input_bytes != 2 || *input || overlapped) return fail(E_INVALID_PARAMETER);
    if (returned) *returned = 0;
    return of_backing(fd, OP_CONTROL);
}

/* Functions that take a path, numbered as in disk_protocol.py. */
enum { PATH_ATTRIBUTES = 1, PATH_MOVE, PATH_DELETE, PATH_MAKE_FOLDER, PATH_REMOVE_FOLDER, PATH_FREE_SPACE, PATH_COPY,
       PATH_REPLACE };

static int of_path(uint32_t function, const wchar *path, const wchar *second, void *answer, uint32_t answer_bytes) {
    char *name = utf8(path), *other = second ? utf8(second) : NULL;
    int fd = connect_model();
    uint32_t code = E_FILE_NOT_FOUND, reply_length;
    if (name && fd >= 0 && (!second || other)) {
        uint32_t length = (uint32_t)strlen(name), more = other ? (uint32_t)strlen(other) + 1 : 0;
        uint8_t *reply, *body = calloc(1, 4 + length + more);
        code = E_OUT_OF_MEMORY;
        if (body) {
            memcpy(body, &function, 4);
            memcpy(body + 4, name, length);
            if (other) memcpy(body + 5 + length, other, more - 1);
            code = ask(fd, NULL, OP_PATH, body, 4 + length + more, &reply, &reply_length);
            free(body);
            if (!code) {
                if (answer && reply_length >= answer_bytes) memcpy(answer, reply, answer_bytes);
                free(reply);
            }
        }
    }
    free(name);
    free(other);
    if (fd >= 0) close(fd);
    return code ? fail((int)code) : 1;
}

uint32_t GetFileAttributesW(const wchar *path) {
    uint32_t attributes;
    return of_path(PATH_ATTRIBUTES, path, NULL, &attributes, 4) ? attributes : 0xFFFFFFFFu;
}

int MoveFileExW(const wchar *path, const wchar *destination, uint32_t flags) {
    (void)flags; /* without MOVEFILE_REPLACE_EXISTING nothing is replaced */
    return of_path(PATH_MOVE, path, destination, NULL, 0);
}

int CopyFileW(const wchar *path, const wchar *destination, int fail_if_exists) {
    return of_path(fail_if_exists ? PATH_COPY : PATH_REPLACE, path, destination, NULL, 0);
}

int DeleteFileW(const wchar *path) { return of_path(PATH_DELETE, path, NULL, NULL, 0); }

int CreateDirectoryW(const wchar *path, void *security) {
    (void)security;
    return of_path(PATH_MAKE_FOLDER, path, NULL, NULL, 0);
}

int RemoveDirectoryW(const wchar *path) { return of_path(PATH_REMOVE_FOLDER, path, NULL, NULL, 0); }

int GetDiskFreeSpaceExW(const wchar *path, uint64_t *available, uint64_t *total, uint64_t *all) {
    (void)total, (void)all;
    return of_path(PATH_FREE_SPACE, path, NULL, available, 8);
}

/* -- virtdisk.dll: functions return their code ---------------------------------------------------- */

struct open_parameters {
    int32_t version, get_info_only, read_only;
    uint8_t resiliency[16], snapshot[16];
};

struct changed_range {
    uint64_t offset, length, reserved;
};

uint32_t OpenVirtualDisk(const void *type, const wchar *path, uint32_t access, uint32_t flags,
                         const struct open_parameters *parameters, intptr_t *out) {
    (void)type;
    *out = -1;
    /* Version 2 wants access NONE and no flags; version 1 meets error 5 on a live chain
       (docs/hyperv-facts.md#virtdisk-open). */
    if (!parameters || parameters->version != 2 || access || flags) return E_INVALID_PARAMETER;
    char *name = utf8(path);
    int fd = connect_model();
    struct handle *handle = NULL;
    uint32_t code = E_FILE_NOT_FOUND;
    if (name && fd >= 0 && (handle = new_handle(fd, 0))) {
        handle->writable = !parameters->read_only;
        uint32_t length = (uint32_t)strlen(name), info_only = parameters->get_info_only ? 1 : 0;
        uint8_t *body = malloc(4 + length);
        if (body) {
            memcpy(body, &info_only, 4);
            memcpy(body + 4, name, length);
            code = ask(fd, &handle->talking, OP_OPEN, body, 4 + length, NULL, NULL);
            free(body);
        }
    }
    free(name);
    if (code) {
        if (fd >= 0) close(fd);
    } else {
        *out = fd;
    }
    return code;
}

uint32_t AttachVirtualDisk(intptr_t fd, void *security, uint32_t flags, uint32_t provider, const int32_t *parameters,
                           void *overlapped) {
    (void)security, (void)provider;
    struct handle *handle = hold(fd);
    if (!handle) return E_INVALID_HANDLE;
    uint32_t code = E_INVALID_PARAMETER;
    /* READ_ONLY is required, but for a handle that was opened to write. */
    if (parameters && *parameters == 1 && ((flags & 1) || handle->writable) && !overlapped && !handle->is_file)
        code = fetch_table(handle, OP_ATTACH, &flags, 4);
    drop_handle(handle);
    return code;
}

uint32_t DetachVirtualDisk(intptr_t fd, uint32_t flags, uint32_t provider) {
    (void)flags, (void)provider;
    struct handle *handle = hold(fd);
    if (!handle) return E_INVALID_HANDLE;
    uint32_t code = ask(handle->fd, &handle->talking, OP_DETACH, "", 0, NULL, NULL);
    pthread_mutex_lock(&registry_lock);
    struct table *table = handle->table;
    handle->table = NULL;
    pthread_mutex_unlock(&registry_lock);
    drop_table(table);
    drop_handle(handle);
    return code;
}

/* GET_VIRTUAL_DISK_INFO: u32 version, u32 padding, then the part of that version as the model packs it. */
uint32_t GetVirtualDiskInformation(intptr_t fd, uint32_t *size, uint8_t *info, uint32_t *used) {
    struct handle *handle = hold(fd);
    uint8_t *reply;
    uint32_t length, version, code;
    if (!handle) return E_INVALID_HANDLE;
    memcpy(&version, info, 4);
    code = ask(handle->fd, &handle->talking, OP_INFO, &version, 4, &reply, &length);
    drop_handle(handle);
    if (code) return code;
    if (used) *used = length + 8;
    if (*size < length + 8) {
        code = E_INSUFFICIENT_BUFFER;
        *size = length + 8;
    } else {
        memcpy(info + 8, reply, length);
    }
    free(reply);
    return code;
}

uint32_t QueryChangesVirtualDisk(intptr_t fd, const wchar *id, uint64_t offset, uint64_t length, uint32_t flags,
                                 struct changed_range *ranges, uint32_t *count, uint64_t *processed) {
    struct handle *handle = hold(fd);
    if (!handle) return E_INVALID_HANDLE;
    char *text = utf8(id);
    uint32_t code = E_INVALID_PARAMETER, reply_length, text_length = text ? (uint32_t)strlen(text) : 0;
    uint8_t *reply = NULL, *body = malloc(20 + text_length);
    if (text && body && !flags && *count) {
        memcpy(body, &offset, 8);
        memcpy(body + 8, &length, 8);
        memcpy(body + 16, count, 4);
        memcpy(body + 20, text, text_length);
        code = ask(handle->fd, &handle->talking, OP_QUERY, body, 20 + text_length, &reply, &reply_length);
    }
    free(text);
    free(body);
    drop_handle(handle);
    if (code) return code;
    uint32_t room = *count, found = (reply_length - 8) / 16;
    memcpy(processed, reply, 8);
    if (found > room) found = room; /* the model does not return more than fits */
    for (uint32_t i = 0; i < found; i++) {
        memcpy(&ranges[i], reply + 8 + 16 * i, 16);
        ranges[i].reserved = 0;
    }
    *count = found;
    free(reply);
    return 0;
}

/* Where the host sees the disk: a name with the number of the handle. */
uint32_t GetVirtualDiskPhysicalPath(intptr_t fd, uint32_t *size, wchar *path) {
    struct handle *handle = hold(fd);
    uint32_t code = handle && handle->table && handle->writable ? 0 : E_INVALID_HANDLE, length;
    char name[64];
    drop_handle(handle);
    if (code) return code;
    length = (uint32_t)snprintf(name, sizeof name, "%s%d", RAW_DISK, (int)fd) + 1;
    if (*size < length * sizeof(wchar)) return E_INSUFFICIENT_BUFFER;
    for (uint32_t i = 0; i < length; i++) path[i] = (wchar)(unsigned char)name[i];
    *size = length * (uint32_t)sizeof(wchar);
    return 0;
}
