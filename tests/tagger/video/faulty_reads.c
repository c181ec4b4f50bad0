/* Makes reads of files fail, as a failing disk does. For LD_PRELOAD.

   FAULTY_FOLDER is a part of the path of the files. The second half of each of them cannot be read. FAULTY_COUNT is the
   number of reads of a file that fail; without it, all do. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int failures;
static char last_name[4096];

static int fails(int file, off_t position, size_t count) {
    const char *folder = getenv("FAULTY_FOLDER");
    char link[64], name[4096];
    struct stat facts;
    if (folder == NULL) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length < 0) return 0;
    name[length] = 0;
    if (strstr(name, folder) == NULL || fstat(file, &facts) != 0) return 0;
    if (position + (off_t)count <= facts.st_size / 2) return 0;
    if (strcmp(name, last_name) != 0) {
        strcpy(last_name, name);
        failures = 0;
    }
    const char *most = getenv("FAULTY_COUNT");
    return most == NULL || failures++ < atoi(most);
}

ssize_t read(int file, void *buffer, size_t count) {
    static ssize_t (*original)(int, void *, size_t);
    if (original == NULL) original = dlsym(RTLD_NEXT, "read");
    if (fails(file, lseek(file, 0, SEEK_CUR), count)) {
        errno = EIO;
        return -1;
    }
    return original(file, buffer, count);
}
