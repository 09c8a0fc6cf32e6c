// As much of Android's header as ring's C asks for.
#pragma once

#include <stddef.h>

void abort(void) __attribute__((noreturn));
void *malloc(size_t size);
void free(void *memory);
