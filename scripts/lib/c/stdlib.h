// As much of the system's header as ring's C asks for, on Android as on Apple's systems.
#pragma once

#include <stddef.h>

void abort(void) __attribute__((noreturn));
void *malloc(size_t size);
void free(void *memory);
