/* Port to Arm's MPS2 board as QEMU emulates it: AN386 (Cortex-M4) and AN500 (Cortex-M7).

   UART0 speaks the protocol; UART1 sends a byte for each change of state ('0' idle, '1' infers, '2' trains) and 'e' for
   each edge, so that a simulated meter knows what the board does. Timer 0 counts at 25 MHz. Register maps: Arm Cortex-M
   System Design Kit TRM (DDI 0479). */
#include "../jt.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define UART(n) (0x40004000u + 0x1000u * (n))
#define DATA 0x00u
#define STATE 0x04u
#define CONTROL 0x08u
#define CLEAR 0x0cu
#define DIVIDER 0x10u
#define TIMER 0x40000000u
#define VALUE 0x04u
#define RELOAD 0x08u
#define NVIC_ENABLE 0xe000e100u
#define NVIC_CLEAR 0xe000e280u
#define CPACR 0xe000ed88u

const uint32_t jt_port_tick_ns = 40, jt_port_instruction_ps = JT_INSTRUCTION_PS;
const char jt_port_name[] = JT_BOARD;

static uint64_t passed;
static uint32_t before;

void jt_port_init(void)
{
    for (uint32_t n = 0; n < 2; n++) {
        REGISTER(UART(n) + DIVIDER) = 25000000u / (JT_ENERGY ? 9600u : 115200u);
        REGISTER(UART(n) + CONTROL) = n == 0 ? 11u : 1u; /* send; of UART0 also receive, with an interrupt */
    }
    REGISTER(NVIC_ENABLE) = 1u;
}

int jt_port_read(void)
{
    while (!(REGISTER(UART(0) + STATE) & 2u)) {
        __asm volatile("wfi"); /* interrupts are masked: one that is pending only ends the sleep */
        REGISTER(UART(0) + CLEAR) = 2u;
        REGISTER(NVIC_CLEAR) = 1u;
    }
    return (int)(REGISTER(UART(0) + DATA) & 255u);
}

static void put(uint32_t n, char byte)
{
    while (REGISTER(UART(n) + STATE) & 1u)
        ;
    REGISTER(UART(n) + DATA) = (uint8_t)byte;
}

void jt_port_write(char byte) { put(0, byte); }

void jt_port_flush(void)
{
    while (REGISTER(UART(0) + STATE) & 1u)
        ;
}

void jt_port_timer_restart(void)
{
    REGISTER(TIMER) = 0;
    REGISTER(TIMER + RELOAD) = UINT32_MAX;
    REGISTER(TIMER + VALUE) = UINT32_MAX;
    passed = 0;
    before = UINT32_MAX;
    REGISTER(TIMER) = 1u;
}

uint64_t jt_port_ticks(void)
{
    const uint32_t now = REGISTER(TIMER + VALUE);
    passed += before - now; /* counts down, and wraps */
    before = now;
    return passed;
}

void jt_port_state(enum jt_state state) { put(1, (char)('0' + state)); }
void jt_port_edge(void) { put(1, 'e'); }

extern uint32_t stack_top, data_from, data_start, data_end, bss_start, bss_end;
int main(void);

void reset(void)
{
    __asm volatile("cpsid i");
    REGISTER(CPACR) |= 0xfu << 20; /* the floating-point unit */
    __asm volatile("dsb\n isb");
    for (uint32_t *from = &data_from, *to = &data_start; to < &data_end;)
        *to++ = *from++;
    for (uint32_t *to = &bss_start; to < &bss_end;)
        *to++ = 0;
    main();
    for (;;)
        __asm volatile("wfi");
}

static void fault(void)
{
    for (const char *at = "\r\ne-[Fault]\r\n"; *at; at++)
        jt_port_write(*at);
    for (;;)
        __asm volatile("wfi");
}

__attribute__((section(".vectors"), used)) static const uintptr_t vectors[16 + 32] = {
    (uintptr_t)&stack_top, (uintptr_t)reset, (uintptr_t)fault, (uintptr_t)fault, (uintptr_t)fault, (uintptr_t)fault,
    (uintptr_t)fault,
};
