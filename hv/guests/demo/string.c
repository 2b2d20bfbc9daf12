/* The four string functions that the rest, and gcc itself, call. */
#include "demo.h"

void *memset(void *to, int value, size_t size)
{
    uint8_t *byte = to;
    while (size--)
        *byte++ = (uint8_t)value;
    return to;
}

void *memcpy(void *to, const void *from, size_t size)
{
    uint8_t *target = to;
    const uint8_t *source = from;
    while (size--)
        *target++ = *source++;
    return to;
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return (uint8_t)*a - (uint8_t)*b;
}

int bytes_equal(const void *a, const void *b, size_t size)
{
    const uint8_t *left = a, *right = b;
    while (size--)
        if (*left++ != *right++)
            return 0;
    return 1;
}
