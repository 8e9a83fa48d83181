#define _GNU_SOURCE
#include "rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cleanup.h"
#include "memory.h"
#include "syscalls.h"

/* A mount of a directory by itself, in this mount namespace and with the given attributes; -1 with errno. */
static int mount_of(int directory, uint64_t attributes)
{
	cleanup_close int tree = sys_open_tree(directory, "", TREE_CLONE | TREE_EMPTY_PATH);
	struct mount_attributes set = { .set = attributes };

	return tree < 0 || sys_mount_setattr(tree, 0, &set) < 0 ? -1 : steal_fd(&tree);
}

int rootfs_lower(const char *path, struct error *err)
{
	cleanup_close int directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int tree = directory < 0 ? -1
				 : mount_of(directory, ATTRIBUTE_READ_ONLY | ATTRIBUTE_NOSUID | ATTRIBUTE_NODEV);

	return tree >= 0 ? tree : error_set(err, errno, "cannot mount the image's files in %s", path);
}

int rootfs_upper(int directory, struct error *err)
{
	int tree = mount_of(directory, ATTRIBUTE_NOSUID | ATTRIBUTE_NODEV);

	return tree >= 0 ? tree : error_set(err, errno, "cannot mount the container's writable layer");
}

static int attach(int tree, const char *target, struct error *err)
{
	cleanup_close int place = tree < 0 ? -1 : open(target, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return tree < 0 || sys_move_mount(tree, place) == 0 ? 0 : error_set(err, errno, "cannot mount on %s", target);
}

int rootfs_scratch(uint64_t size, int lower, int upper, struct error *err)
{
	static const char *const directories[] = { "/tmp/lower", "/tmp/writable", "/tmp/writable/upper",
						   "/tmp/writable/work", "/tmp/root", "/tmp/host" };
	char options[64];

	if (size == 0)
		size = memory_limit() / 2;
	(void)snprintf(options, sizeof(options), "mode=0755,size=%" PRIu64, size);
	/* /tmp is there on every machine; it is hidden only until `base` uncovers it again. */
	if (mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, options) < 0)
		return error_set(err, errno, "cannot mount a tmpfs of %" PRIu64 " bytes for the container", size);
	for (size_t i = 0; i < sizeof(directories) / sizeof(*directories); i++)
		if (mkdir(directories[i], 0755) < 0)
			return error_set(err, errno, "cannot create %s for the container", directories[i]);
	return attach(lower, "/tmp/lower", err) < 0 ? -1 : attach(upper, "/tmp/writable", err);
}

int rootfs_writable(void)
{
	return sys_open_tree(AT_FDCWD, "/tmp/writable", TREE_CLONE);
}

int rootfs_base(struct error *err)
{
	if (chdir("/tmp") < 0 || sys_pivot_root(".", "host") < 0 || chdir("/") < 0)
		return error_set(err, errno, "cannot set the host's mounts aside");
	return 0;
}

/* squashfuse serves a damaged image all the same; ENOENT is its answer for a root it cannot read. */
static bool is_server_gone(int code)
{
	return code == ENOTCONN || code == ECONNABORTED || code == EIO || code == ENOENT;
}

static bool can_be_listed(void)
{
	cleanup_close int fd = open("/root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char entries[1024];

	return fd >= 0 && syscall(SYS_getdents64, fd, entries, sizeof(entries)) > 0;
}

static int explain_server(struct error *err)
{
	error_set(err, 0, "squashfuse cannot read the image");
	return error_hint(err, "it is damaged or compressed in a way that squashfuse does not know: "
			  "fetch or build it anew");
}

int rootfs_overlay(struct error *err)
{
	/* Without them overlayfs cannot mark a directory that replaces another (tmpfs: kernel 6.6). */
	if (setxattr("/writable/upper", "user.pinnace", "", 0, 0) < 0) {
		error_set(err, errno, "the writable layer cannot hold user.* attributes");
		return error_hint(err, "use overlay = \"fuse-overlayfs\"");
	}
	if (mount("overlay", "/root", "overlay", MS_NOSUID | MS_NODEV,
		  "lowerdir=/lower,upperdir=/writable/upper,workdir=/writable/work,userxattr") == 0)
		return 0;
	if (is_server_gone(errno))
		return explain_server(err);
	error_set(err, errno, "cannot lay an overlay over the image");
	return error_hint(err, "use overlay = \"fuse-overlayfs\"; `pinnace doctor` says more");
}

int rootfs_watch(void)
{
	cleanup_close int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	/* What happens to every watch is the point: IN_UNMOUNT, when the last mount of it is gone. */
	return watch < 0 || inotify_add_watch(watch, "/root", IN_DELETE_SELF) < 0 ? -1 : steal_fd(&watch);
}

int rootfs_root(struct error *err)
{
	cleanup_close int place = open("/root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	/*
	 * A mount inherited from the holder's namespace is locked and cannot become the root
	 * (mount_namespaces(7)); a copy of it is not.
	 */
	int root = place < 0 ? -1 : sys_open_tree(place, "", TREE_CLONE | TREE_EMPTY_PATH | TREE_RECURSIVE);

	if (root >= 0 && sys_move_mount(root, place) == 0 && can_be_listed())
		return root;
	if (is_server_gone(errno))
		explain_server(err);
	else
		error_set(err, errno, "cannot open the container's root");
	if (root >= 0)
		(void)close(root);
	return -1;
}

int rootfs_read_only(int root, struct error *err)
{
	struct mount_attributes attributes = { .set = ATTRIBUTE_READ_ONLY };

	if (sys_mount_setattr(root, 0, &attributes) < 0)
		return error_set(err, errno, "cannot make the container's root read-only");
	return 0;
}

int rootfs_pivot(int root, struct error *err)
{
	/* pivot_root(2), NOTES: with both arguments ".", the old root lies on top of the new one. */
	if (fchdir(root) < 0 || sys_pivot_root(".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return error_set(err, errno, "cannot enter the container's root");
	return 0;
}
