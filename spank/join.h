/* A task's way into the container that the launcher has made. */
#ifndef PINNACE_JOIN_H
#define PINNACE_JOIN_H

#include "../libexec/error.h"
#include "../libexec/task.h"

/* The answer in a socket: 0 if it is there and as it should be, else -1. It stays there. */
int join_check(int socket, struct error *err);

/*
 * Join the namespaces of the answer in socket and carry out what the plan says for each task:
 * 0 or -1. Leaves no descriptor behind.
 */
int join_container(int socket, const struct task_environment *environment, struct error *err);

#endif
