// As much of Android's header as ring's C asks for.
#pragma once

#ifdef NDEBUG
#define assert(condition) ((void)0)
#else
void __assert2(const char *file, int line, const char *function, const char *condition)
    __attribute__((noreturn));
#define assert(condition) \
  ((condition) ? (void)0 : __assert2(__FILE__, __LINE__, __func__, #condition))
#endif

#if !defined(__cplusplus) && !defined(static_assert)
#define static_assert _Static_assert
#endif
