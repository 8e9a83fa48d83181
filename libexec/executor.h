/* A plan being carried out, and the operations that it may hold (docs/protocol.md). */
#ifndef PINNACE_EXECUTOR_H
#define PINNACE_EXECUTOR_H

#include <stdbool.h>
#include <sys/types.h>

#include "error.h"
#include "fields.h"
#include "fuse.h"
#include "hooks.h"
#include "keeper.h"
#include "layer.h"
#include "timings.h"

enum { MAX_SERVERS = 2 };

struct executor {
	int plan;      /* descriptor of the plan, handed over with the container */
	int proc;      /* /proc of the host */
	int host;      /* the host's tree, from `root` on */
	int root;      /* the container's root, from `root` on */
	int lower;     /* a mount of the image's files, for `scratch`; -1: none */
	struct layer layer; /* the directory of the writable layer */
	mode_t umask;  /* the caller's, for the command */
	bool finished;
	struct timings timings;
	int kinds;       /* of namespaces that `unshare` has made */
	bool own_mounts; /* from the first `mount-namespace` on */
	struct held held; /* from `lifeline` and `lease` on */
	struct keeper keeper;
	struct hooks hooks;
	struct fuse_server servers[MAX_SERVERS];
};

/* Carries one operation out. */
typedef int do_function(struct executor *executor, const struct field *operation, struct error *err);

/* rooting.c: the container's tree, and what is mounted and written in it. */
do_function do_scratch;
do_function do_lower_directory;
do_function do_upper_directory;
do_function do_fuse_mount;
do_function do_base;
do_function do_overlay;
do_function do_root;
do_function do_bind;
do_function do_tmpfs;
do_function do_sysfs;
do_function do_volume;
do_function do_volumes_file;
do_function do_remount;
do_function do_unmount;
do_function do_file;
do_function do_prepend;
do_function do_optional_file;
do_function do_directory;
do_function do_read_only;
do_function do_pivot;

/* running.c: programs, of the image and of the site. */
do_function do_script;
do_function do_entrypoint;
do_function do_entrypoint_script;
do_function do_command;
do_function do_hooks_begin;
do_function do_hook;
do_function do_hooks_end;
do_function do_hook_variables;

#endif
