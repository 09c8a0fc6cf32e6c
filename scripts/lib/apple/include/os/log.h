// As much of Apple's header as oslog's C asks for. A line goes through clang's builtins to the function of libSystem,
// as Apple's own macros do it, so that the library asks for the same symbols.
#pragma once

#include <stdint.h>

typedef struct os_log_s *os_log_t;
typedef uint8_t os_log_type_t;

#define OS_LOG_TYPE_DEFAULT 0
#define OS_LOG_TYPE_INFO 1
#define OS_LOG_TYPE_DEBUG 2
#define OS_LOG_TYPE_ERROR 16
#define OS_LOG_TYPE_FAULT 17

extern struct os_log_s _os_log_default;
#define OS_LOG_DEFAULT (&_os_log_default)

extern struct mach_header __dso_handle;
void _os_log_impl(void *image, os_log_t log, os_log_type_t type, const char *format, uint8_t *arguments,
                  uint32_t bytes);

#define os_log_with_type(log, type, format, ...)                                                    \
  __extension__({                                                                                   \
    uint8_t arguments[__builtin_os_log_format_buffer_size(format, __VA_ARGS__)];                    \
    _os_log_impl((void *)&__dso_handle, log, type, format,                                          \
                 (uint8_t *)__builtin_os_log_format(arguments, format, __VA_ARGS__), sizeof arguments); \
  })
#define os_log(log, ...) os_log_with_type(log, OS_LOG_TYPE_DEFAULT, __VA_ARGS__)
#define os_log_info(log, ...) os_log_with_type(log, OS_LOG_TYPE_INFO, __VA_ARGS__)
#define os_log_debug(log, ...) os_log_with_type(log, OS_LOG_TYPE_DEBUG, __VA_ARGS__)
#define os_log_error(log, ...) os_log_with_type(log, OS_LOG_TYPE_ERROR, __VA_ARGS__)
#define os_log_fault(log, ...) os_log_with_type(log, OS_LOG_TYPE_FAULT, __VA_ARGS__)
