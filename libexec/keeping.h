/* Between the executor and its keeper, and the keeper's own process. */
#ifndef PINNACE_KEEPING_H
#define PINNACE_KEEPING_H

#include <sys/socket.h>

#include "keeper.h"

/* What the executor asks of the keeper: the first byte of a message. */
enum keeper_request { SERVE = 's', READY = 'r', END = 'e', HAND_OVER = 'h', SPACE = 'f', LAYER = 'l' };

enum { KEEPER_MESSAGE_MAX = 1 << 14, KEEPER_MAX_DESCRIPTORS = 2 };

/* The descriptors of a message. */
union keeper_rights {
	struct cmsghdr header;
	char space[CMSG_SPACE(KEEPER_MAX_DESCRIPTORS * sizeof(int))];
};

/* Be the keeper: control is the socket of its messages, command a pidfd of the executor. */
__attribute__((noreturn)) void keep(int control, int command, const struct held *held);

#endif
