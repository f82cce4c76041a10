/* Port to this computer: standard input and output, for tests without an emulator. */
#include <stdio.h>
#include <time.h>

#include "../jt.h"

const uint32_t jt_port_tick_ns = 1000, jt_port_instruction_ps = 0;
const char jt_port_name[] = "host";

static uint64_t zero;

static uint64_t now(void)
{
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

void jt_port_init(void) {}
int jt_port_read(void)
{
    fflush(stdout);
    return getchar();
}
void jt_port_write(char byte) { putchar(byte); }
void jt_port_flush(void) { fflush(stdout); }
void jt_port_timer_restart(void) { zero = now(); }
uint64_t jt_port_ticks(void) { return now() - zero; }
void jt_port_state(enum jt_state state) { (void)state; }
void jt_port_edge(void) {}
