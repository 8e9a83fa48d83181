/* What tests of the C parts are written with: each prints one line, as TAP has it. */
#ifndef PINNACE_CHECK_H
#define PINNACE_CHECK_H

#include <stdio.h>

static int failures;
static int tests;

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			failures++; \
			printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
		} \
	} while (0)

#define RUN(test) \
	do { \
		int before = failures; \
		test(); \
		printf("%s %d - %s\n", failures == before ? "ok" : "not ok", ++tests, #test); \
	} while (0)

#endif
