/* Plans that the launcher has kept for a start like this one (docs/protocol.md, "Kept plans"). */
#ifndef PINNACE_KEPT_H
#define PINNACE_KEPT_H

#include "asked.h"
#include "error.h"
#include "fields.h"

/* An entry, and what it needs to be used. */
struct kept {
	uint8_t *data;
	struct fields entry;  /* of the data, read up to the plan by kept_check */
	int lease;            /* the lock of the image, or -1 */
	const char *job;      /* how the path of a job's lease begins, or NULL */
};

/* Find the entry for what is asked: 0, or -1 if there is none that is surely the user's own. */
int kept_find(const struct asked *asked, struct kept *kept, struct error *err);

/* Look at everything that the plan rests on, and lock the image: 0, or -1 with what is not as it was. */
int kept_check(const struct asked *asked, struct kept *kept, struct error *err);

void kept_release(struct kept *kept);

#endif
