/* The smallest test harness that says where and what: a failed check ends the program. */
#ifndef PINNACE_CHECK_H
#define PINNACE_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                        \
	do {                                                                                    \
		if (!(condition)) {                                                             \
			fprintf(stderr, "%s:%d: %s: not so: %s\n", __FILE__, __LINE__, __func__, \
				#condition);                                                    \
			exit(1);                                                                \
		}                                                                               \
	} while (0)

#define RUN(test)                             \
	do {                                  \
		fake_reset();                 \
		test();                       \
		fake_reset();                 \
		printf("ok %s\n", #test);     \
	} while (0)

#endif
