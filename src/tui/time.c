/* time.c: durations and rates for people. */
#include "tui/app.h"
#include <stdio.h>

const char *duration_text(double seconds, char *out, size_t room)
{
    unsigned long s = seconds > 0 && seconds < 1e9 ? (unsigned long)(seconds + 0.5) : 0;
    if (seconds >= 0 && seconds < 10)
        snprintf(out, room, "%.1f s", seconds);
    else if (s < 3600)
        snprintf(out, room, "%lu:%02lu", s / 60, s % 60);
    else
        snprintf(out, room, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
    return out;
}

const char *rate_text(double bytes_per_second, char *out, size_t room)
{
    char bytes[32];
    snprintf(out, room, "%s/s", sl_text_bytes(bytes_per_second > 0 ? (uint64_t)bytes_per_second : 0, bytes, sizeof bytes));
    return out;
}
