/* New namespaces for this process (user_namespaces(7), mount_namespaces(7)). */
#ifndef PINNACE_NAMESPACE_H
#define PINNACE_NAMESPACE_H

#include <sys/types.h>

#include "error.h"

/* A user namespace in which the caller, and nobody else, is uid:gid. proc: a descriptor of /proc. */
int namespace_user(int proc, uid_t uid, gid_t gid, struct error *err);

/* A mount namespace that receives the host's mounts and sends none. */
int namespace_mount(struct error *err);

/* Send the user and mount namespace, a file and what is to be held over a socket with one field `ready` = `1`. */
int namespace_send(int proc, int socket, int file, int held, struct error *err);

#endif
