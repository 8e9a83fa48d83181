/* New namespaces for this process (user_namespaces(7), mount_namespaces(7)). */
#ifndef PINNACE_NAMESPACE_H
#define PINNACE_NAMESPACE_H

#include <sys/types.h>

#include "error.h"

/* A user namespace in which the caller, and nobody else, is uid:gid. proc: a descriptor of /proc. */
int namespace_user(int proc, uid_t uid, gid_t gid, struct error *err);

/* A mount namespace that receives the host's mounts and sends none. */
int namespace_mount(struct error *err);

/*
 * New namespaces of these names, NULL at the end: net, in which the loopback device is up, ipc and uts. The
 * flags of clone(2) for them go to kinds.
 */
int namespace_unshare(const char *const *names, int *kinds, struct error *err);

/*
 * Send the user and mount namespace, a file, what is to be held and the namespaces of kinds over a socket
 * with one field `ready` = `1`.
 */
int namespace_send(int proc, int socket, int file, int held, int kinds, struct error *err);

#endif
