/*
 * The keeper: one process beside a container until it has ended. It is the parent of the container's
 * FUSE servers, and holds what is to last as long as the container.
 */
#ifndef PINNACE_KEEPER_H
#define PINNACE_KEEPER_H

#include <stddef.h>
#include <sys/types.h>

#include "error.h"
#include "layer.h"

enum { KEEPER_MAX_HELD = 2 };

/* Descriptors that the keeper and every server hold until they end: whoever waits for that, or counts on it. */
struct held {
	int descriptors[KEEPER_MAX_HELD];
	size_t count;
};

struct keeper {
	int control;   /* what it is asked for goes here; -1: there is none */
	pid_t starter; /* the child that forked it */
};

#define KEEPER_NONE { .control = -1 }

/*
 * Fork the keeper. It stays in the mount namespace of now: in the container's its own references would
 * keep that namespace alive for ever. It lives at least as long as the caller's process.
 */
int keeper_start(struct keeper *keeper, const struct held *held, struct error *err);

/*
 * Have a server executed, without an environment; arguments are length bytes, each terminated, and `@`
 * stands for the device. namespace is the mount namespace that it is to be in, -1: the keeper's.
 */
int keeper_serve(const struct keeper *keeper, const char *arguments, size_t length, int device, int namespace,
		 struct error *err);

/* The container is complete: from now on a server that dies is worth a word. No child is left of the start. */
int keeper_ready(const struct keeper *keeper, struct error *err);

/* A descriptor that becomes readable, or hangs up, when the container ends. */
int keeper_end(const struct keeper *keeper, int end, struct error *err);

/* The same for a container that outlives the caller: tasks join it and leave it. */
int keeper_hand_over(const struct keeper *keeper, int end, struct error *err);

/* The file system of a writable layer in memory, to say at the end whether it was full. */
int keeper_space(const struct keeper *keeper, int space, struct error *err);

/* The directory of a writable layer, to keep it locked, and to remove it at the end unless it stays. */
int keeper_layer(const struct keeper *keeper, const struct layer *layer, struct error *err);

#endif
