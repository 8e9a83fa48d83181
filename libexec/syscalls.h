/* System calls that glibc below 2.36 has no wrapper for, and the constants they need (mount_setattr(2), openat2(2)). */
#ifndef PINNACE_SYSCALLS_H
#define PINNACE_SYSCALLS_H

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The names differ from those of <sys/mount.h>, which has them from glibc 2.36 on. */
enum {
	TREE_CLONE = 1,                /* OPEN_TREE_CLONE */
	TREE_RECURSIVE = 0x8000,       /* AT_RECURSIVE */
	TREE_EMPTY_PATH = 0x1000,      /* AT_EMPTY_PATH */
	MOVE_FROM_EMPTY_PATH = 0x04,   /* MOVE_MOUNT_F_EMPTY_PATH */
	MOVE_TO_EMPTY_PATH = 0x40,     /* MOVE_MOUNT_T_EMPTY_PATH */
	CONTEXT_SET_FLAG = 0,          /* FSCONFIG_SET_FLAG */
	CONTEXT_SET_STRING = 1,        /* FSCONFIG_SET_STRING */
	CONTEXT_CREATE = 6,            /* FSCONFIG_CMD_CREATE */
};

enum {
	ATTRIBUTE_READ_ONLY = 0x01,    /* MOUNT_ATTR_RDONLY */
	ATTRIBUTE_NOSUID = 0x02,       /* MOUNT_ATTR_NOSUID */
	ATTRIBUTE_NODEV = 0x04,        /* MOUNT_ATTR_NODEV */
	ATTRIBUTE_NOEXEC = 0x08,       /* MOUNT_ATTR_NOEXEC */
};

/* struct mount_attr of mount_setattr(2), Linux 5.12 */
struct mount_attributes {
	uint64_t set;
	uint64_t clear;
	uint64_t propagation;
	uint64_t user_namespace;
};

static inline int sys_openat2(int directory, const char *path, uint64_t flags, uint64_t resolve)
{
	struct open_how how = { .flags = flags | O_CLOEXEC, .resolve = resolve };

	return (int)syscall(SYS_openat2, directory, path, &how, sizeof(how));
}

static inline int sys_open_tree(int directory, const char *path, unsigned int flags)
{
	return (int)syscall(SYS_open_tree, directory, path, flags | O_CLOEXEC);
}

static inline int sys_move_mount(int from, int to)
{
	return (int)syscall(SYS_move_mount, from, "", to, "", MOVE_FROM_EMPTY_PATH | MOVE_TO_EMPTY_PATH);
}

static inline int sys_mount_setattr(int mount, unsigned int flags, struct mount_attributes *attributes)
{
	return (int)syscall(SYS_mount_setattr, mount, "", flags | TREE_EMPTY_PATH, attributes,
			    sizeof(*attributes));
}

static inline int sys_fsopen(const char *type)
{
	return (int)syscall(SYS_fsopen, type, 1 /* FSOPEN_CLOEXEC */);
}

static inline int sys_fsconfig(int context, unsigned int command, const char *key, const char *value)
{
	return (int)syscall(SYS_fsconfig, context, command, key, value, 0);
}

static inline int sys_fsmount(int context, unsigned int attributes)
{
	return (int)syscall(SYS_fsmount, context, 1 /* FSMOUNT_CLOEXEC */, attributes);
}

static inline int sys_pivot_root(const char *new_root, const char *put_old)
{
	return (int)syscall(SYS_pivot_root, new_root, put_old);
}

static inline int sys_pidfd_open(pid_t process)
{
	return (int)syscall(SYS_pidfd_open, process, 0);
}

static inline int sys_close_range(unsigned int first)
{
	return (int)syscall(SYS_close_range, first, ~0U, 0);
}

#endif
