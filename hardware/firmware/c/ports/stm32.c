/* Port to an STM32 on a Nucleo-144 board: a template, written after the reference manuals and never run on a board.

   Pins of a NUCLEO-H7A3ZI-Q and a NUCLEO-L4R5ZI: the virtual COM port of the ST-LINK is USART3 (PD8, PD9) and LPUART1
   (PG7, PG8). Timestamp edge: PE9, which is D6 of the Arduino connector, to D7 of the LPM01A; state: PE11 (D5, infers)
   and PE13 (D3, trains), to logic inputs of a PPK2 or Joulescope. Clock tree, flash latency and the vector table come
   from your project; what is here are the register accesses that the firmware needs. Fill in the four lines marked
   BOARD after the reference manual of your part, e.g. RM0455 for the H7A3. */
#include "../jt.h"

#ifndef JT_CORE_HZ
#error "JT_CORE_HZ: the clock of the core in Hz, e.g. -DJT_CORE_HZ=280000000"
#endif

#define REGISTER(address) (*(volatile uint32_t *)(address))

#ifndef USART_BASE
#define USART_BASE 0x40004800u /* BOARD: USART3 of the H7A3 */
#endif
#ifndef USART_HZ
#define USART_HZ (JT_CORE_HZ / 2u) /* BOARD: clock that the UART is fed with */
#endif
#ifndef GPIO_BASE
#define GPIO_BASE 0x58021000u /* BOARD: port E of the H7A3; 0x48001000 on the L4R5 */
#endif
#define EDGE_PIN 9u   /* BOARD: timestamp */
#define INFER_PIN 11u
#define TRAIN_PIN 13u

/* USART as in all STM32 of these families: CR1 00, BRR 0c, ISR 1c, RDR 24, TDR 28 */
#define CR1 REGISTER(USART_BASE + 0x00u)
#define BRR REGISTER(USART_BASE + 0x0cu)
#define ISR REGISTER(USART_BASE + 0x1cu)
#define ICR REGISTER(USART_BASE + 0x20u)
#define RDR REGISTER(USART_BASE + 0x24u)
#define TDR REGISTER(USART_BASE + 0x28u)
#define MODER REGISTER(GPIO_BASE + 0x00u)
#define BSRR REGISTER(GPIO_BASE + 0x18u)
/* Cycle counter of the core */
#define DEMCR REGISTER(0xe000edfcu)
#define DWT_CTRL REGISTER(0xe0001000u)
#define DWT_CYCCNT REGISTER(0xe0001004u)

/* The cycle counter is divided so that a tick is a whole number of nanoseconds. */
#define TICK_NS 1000u
const uint32_t jt_port_tick_ns = TICK_NS, jt_port_instruction_ps = 0;
const char jt_port_name[] = JT_BOARD;

static uint64_t cycles;
static uint32_t before;

static void pin(uint32_t number, int high) { BSRR = 1u << (number + (high ? 0u : 16u)); }

void jt_port_init(void)
{
    /* The clocks of the UART and of the GPIO port, and the UART's pins, are set by your project before main. */
    for (uint32_t i = 0; i < 3; i++) {
        const uint32_t number = i == 0 ? EDGE_PIN : i == 1 ? INFER_PIN : TRAIN_PIN;
        MODER = (MODER & ~(3u << (2 * number))) | 1u << (2 * number);
    }
    pin(EDGE_PIN, 1);
    CR1 = 0;
    BRR = (USART_HZ + (JT_ENERGY ? 4800u : 57600u)) / (JT_ENERGY ? 9600u : 115200u);
    CR1 = 1u | 1u << 2 | 1u << 3 | 1u << 5; /* on, receive, send, interrupt when a byte is there */
    DEMCR |= 1u << 24;
    DWT_CTRL |= 1u;
}

int jt_port_read(void)
{
    while (!(ISR & 1u << 5)) {
        ICR = 1u << 3;         /* an overrun stops the receiver until it is cleared */
        __asm volatile("nop"); /* "wfi" once the interrupt of the UART is enabled in the NVIC and masked by PRIMASK */
    }
    return (int)(RDR & 255u);
}

void jt_port_write(char byte)
{
    while (!(ISR & 1u << 7))
        ;
    TDR = (uint8_t)byte;
}

void jt_port_flush(void)
{
    while (!(ISR & 1u << 6))
        ;
}

void jt_port_timer_restart(void)
{
    cycles = 0;
    before = DWT_CYCCNT;
}

uint64_t jt_port_ticks(void)
{
    const uint32_t now = DWT_CYCCNT;
    cycles += now - before; /* wraps every 15 s at 280 MHz: to be called more often than that */
    before = now;
    return cycles * 1000u / (JT_CORE_HZ / 1000000u) / TICK_NS;
}

void jt_port_state(enum jt_state state)
{
    pin(INFER_PIN, state == JT_INFER);
    pin(TRAIN_PIN, state == JT_TRAIN);
}

void jt_port_edge(void)
{
    pin(EDGE_PIN, 0);
    const uint32_t start = DWT_CYCCNT;
    while (DWT_CYCCNT - start < JT_CORE_HZ / 500000u) /* two microseconds */
        ;
    pin(EDGE_PIN, 1);
}
