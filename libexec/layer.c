#define _GNU_SOURCE
#include "layer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"

static const char PREFIX[] = "pinnace-";
static const char DIGITS[] = "0123456789abcdef";

/* A container that ends needs a moment to let go of its directory: so long the next one waits. */
enum { BUSY_TRIES = 50, BUSY_WAIT_MS = 20 };
/* Directories are removed by descriptors, of which a process may have a thousand. */
enum { NAME_DIGITS = 16, CREATE_TRIES = 8, MAX_DEPTH = 100 };

/* File systems on which overlayfs has no upper directory, or one that is slow for all nodes (statfs(2)). */
static const struct {
	uint32_t type;
	const char *name;
} network_systems[] = {
	{ 0x6969, "NFS" },         { 0x0bd00bd0, "Lustre" },   { 0xff534d42, "CIFS" },   { 0xfe534d42, "SMB" },
	{ 0x517b, "SMB" },         { 0x47504653, "GPFS" },     { 0x19830326, "BeeGFS" }, { 0x00c36400, "Ceph" },
	{ 0x01021997, "9p" },      { 0x20030528, "OrangeFS" }, { 0x5346414f, "AFS" },    { 0x6b414653, "AFS" },
	{ 0xaad7aaea, "PanFS" },   { 0x65735546, "FUSE" },     { 0x013111a8, "IBRIX" },  { 0x7461636f, "OCFS2" },
	{ 0x01161970, "GFS2" },
};

static int explain_network(const char *path, const char *system, struct error *err)
{
	error_set(err, 0, "the writable layer of a container cannot lie on %s (%s)", system, path);
	return error_hint(err, "give a directory on a disk of the node, or leave the layer in memory "
			  "(writable_layer = \"tmpfs\")");
}

static int open_place(const char *path, struct error *err)
{
	cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statfs status;

	if (fd < 0 || fstatfs(fd, &status) < 0) {
		error_set(err, errno, "cannot use %s for the container's writable layer", path);
		return error_hint(err, "a directory of this node that you may write to is expected");
	}
	for (size_t i = 0; i < sizeof(network_systems) / sizeof(*network_systems); i++)
		if ((uint32_t)status.f_type == network_systems[i].type)
			return explain_network(path, network_systems[i].name, err);
	return steal_fd(&fd);
}

static int make_directories(int directory)
{
	return (mkdirat(directory, "upper", 0755) < 0 && errno != EEXIST) ||
	       (mkdirat(directory, "work", 0700) < 0 && errno != EEXIST) ? -1 : 0;
}

/* Lock a directory, if nobody else has: 0, or -1. What was removed meanwhile is nobody's. */
static int lock_directory(int directory)
{
	struct stat status;

	return flock(directory, LOCK_EX | LOCK_NB) == 0 && fstat(directory, &status) == 0 && status.st_nlink > 0 ? 0 : -1;
}

static int choose_name(char name[NAME_MAX + 1])
{
	uint64_t number;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return -1;
	(void)snprintf(name, NAME_MAX + 1, "%s%016" PRIx64, PREFIX, number);
	return 0;
}

int layer_create(const char *path, struct layer *layer, struct error *err)
{
	cleanup_close int place = open_place(path, err);

	if (place < 0)
		return -1;
	/* Between these two calls another start may take the directory for a leftover. */
	for (int i = 0; i < CREATE_TRIES; i++) {
		cleanup_close int directory = -1;

		if (choose_name(layer->name) < 0 || mkdirat(place, layer->name, 0700) < 0)
			break;
		directory = openat(place, layer->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (directory < 0 || lock_directory(directory) < 0)
			continue;
		if (make_directories(directory) < 0) {
			error_set(err, errno, "cannot make the container's writable layer in %s", path);
			layer_remove(place, layer->name, directory);
			return -1;
		}
		layer->directory = steal_fd(&directory);
		layer->place = steal_fd(&place);
		return 0;
	}
	error_set(err, errno, "cannot make the container's writable layer in %s", path);
	return error_hint(err, "a directory of this node that you may write to is expected");
}

int layer_open(const char *path, struct layer *layer, struct error *err)
{
	const struct timespec pause = { .tv_nsec = BUSY_WAIT_MS * 1000000L };
	cleanup_close int directory = -1;
	struct stat status;
	int tries = 0;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return error_set(err, errno, "cannot make %s for what the container writes", path);
	directory = open_place(path, err);
	if (directory < 0)
		return -1;
	if (fstat(directory, &status) < 0 || status.st_uid != geteuid()) {
		error_set(err, 0, "%s belongs to somebody else", path);
		return error_hint(err, "give a directory of your own for what the container writes");
	}
	while (lock_directory(directory) < 0) {
		if (errno != EWOULDBLOCK)
			return error_set(err, errno, "cannot lock %s", path);
		if (++tries == BUSY_TRIES) {
			error_set(err, 0, "another container writes to %s", path);
			return error_hint(err, "wait for its end, or give another directory");
		}
		(void)nanosleep(&pause, NULL);
	}
	if (make_directories(directory) < 0)
		return error_set(err, errno, "cannot make the container's writable layer in %s", path);
	layer->directory = steal_fd(&directory);
	return 0;
}

/* Open a directory entry whatever its mode; overlayfs makes some that nobody may read. */
static int open_entry(int directory, const char *name)
{
	int fd = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_close int entry = -1;
	char path[64];

	if (fd >= 0 || errno != EACCES)
		return fd;
	entry = openat(directory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", entry);
	return entry >= 0 && chmod(path, 0700) == 0 ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

/* Remove what is in a directory. What lies too deep comes to the top: true if something did. */
static bool empty(int top, int directory, unsigned int depth)
{
	int copy = fcntl(directory, F_DUPFD_CLOEXEC, 0);
	DIR *stream = copy < 0 ? NULL : fdopendir(copy);
	bool moved = false;
	struct dirent *entry;
	char name[NAME_MAX + 1];

	if (stream == NULL) {
		cleanup_close_fd(&copy);
		return false;
	}
	rewinddir(stream);
	while ((entry = readdir(stream)) != NULL) {
		cleanup_close int child = -1;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    unlinkat(directory, entry->d_name, 0) == 0 || unlinkat(directory, entry->d_name, AT_REMOVEDIR) == 0)
			continue;
		child = open_entry(directory, entry->d_name);
		if (child < 0)
			continue;
		if (depth < MAX_DEPTH) {
			moved |= empty(top, child, depth + 1);
			(void)unlinkat(directory, entry->d_name, AT_REMOVEDIR);
		} else if (choose_name(name) == 0) {
			moved |= renameat(directory, entry->d_name, top, name) == 0;
		}
	}
	(void)closedir(stream);
	return moved;
}

void layer_remove(int place, const char *name, int directory)
{
	while (empty(directory, directory, 0))
		;
	(void)unlinkat(place, name, AT_REMOVEDIR);
}

static bool is_own_name(const char *name)
{
	size_t start = sizeof(PREFIX) - 1;

	return strncmp(name, PREFIX, start) == 0 && strlen(name) == start + NAME_DIGITS &&
	       strspn(name + start, DIGITS) == NAME_DIGITS;
}

void layer_sweep(int place)
{
	int copy = fcntl(place, F_DUPFD_CLOEXEC, 0);
	DIR *stream = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;
	struct stat status;

	if (stream == NULL) {
		cleanup_close_fd(&copy);
		return;
	}
	rewinddir(stream);
	while ((entry = readdir(stream)) != NULL) {
		cleanup_close int directory = -1;

		if (!is_own_name(entry->d_name))
			continue;
		directory = openat(place, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (directory >= 0 && fstat(directory, &status) == 0 && status.st_uid == geteuid() &&
		    lock_directory(directory) == 0)
			layer_remove(place, entry->d_name, directory);
	}
	(void)closedir(stream);
}
