/* COM1, a 16550: output waits for the transmitter, input comes by interrupt into a ring. */
#include <stdarg.h>

#include "demo.h"

#define COM1 0x3F8
#define DATA (COM1 + 0)      /* RBR, THR; divisor low byte when DLAB is set */
#define IER (COM1 + 1)       /* interrupt enable; divisor high byte when DLAB is set */
#define FCR (COM1 + 2)       /* FIFO control */
#define LCR (COM1 + 3)       /* line control */
#define MCR (COM1 + 4)       /* modem control */
#define LSR (COM1 + 5)       /* line status */
#define IER_RECEIVED 0x01
#define FCR_ENABLE_CLEAR 0x07
#define LCR_8N1 0x03
#define LCR_DLAB 0x80
#define MCR_DTR_RTS_OUT2 0x0B /* OUT2 connects the interrupt line */
#define LSR_DATA_READY 0x01
#define LSR_THR_EMPTY 0x20

#define RING_SIZE 256

static volatile uint8_t ring[RING_SIZE];
static volatile uint32_t ring_head; /* written by the interrupt only */
static volatile uint32_t ring_tail; /* written by the reader only */

void serial_setup(void)
{
    outb(LCR, LCR_DLAB);
    outb(DATA, 1); /* 115200 baud */
    outb(IER, 0);
    outb(LCR, LCR_8N1);
    outb(FCR, FCR_ENABLE_CLEAR);
    outb(MCR, MCR_DTR_RTS_OUT2);
    outb(IER, IER_RECEIVED);
}

void serial_interrupt(void)
{
    while (inb(LSR) & LSR_DATA_READY) {
        uint8_t byte = inb(DATA);
        if (ring_head - ring_tail < RING_SIZE) {
            ring[ring_head % RING_SIZE] = byte;
            ring_head++;
        }
    }
}

int serial_read(void)
{
    if (ring_tail == ring_head)
        return -1;
    return ring[ring_tail++ % RING_SIZE];
}

static void put_char(char c)
{
    if (c == '\n')
        put_char('\r');
    while (!(inb(LSR) & LSR_THR_EMPTY))
        pause();
    outb(DATA, (uint8_t)c);
}

static void put_string(const char *text)
{
    while (*text)
        put_char(*text++);
}

static void put_number(uint64_t value, uint64_t base)
{
    char digits[21];
    char *first = digits + sizeof digits - 1;
    *first = 0;
    do {
        *--first = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    put_string(first);
}

/* %s, %c, %u (uint32_t), %lu and %lx (uint64_t), %%. */
void print(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    for (; *format; format++) {
        if (*format != '%') {
            put_char(*format);
            continue;
        }
        int is_long = *++format == 'l';
        format += is_long;
        switch (*format) {
        case 's':
            put_string(va_arg(arguments, const char *));
            break;
        case 'c':
            put_char((char)va_arg(arguments, int));
            break;
        case 'u':
            put_number(is_long ? va_arg(arguments, uint64_t) : va_arg(arguments, uint32_t), 10);
            break;
        case 'x':
            put_number(is_long ? va_arg(arguments, uint64_t) : va_arg(arguments, uint32_t), 16);
            break;
        case '%':
            put_char('%');
            break;
        default:
            va_end(arguments);
            return;
        }
    }
    va_end(arguments);
}
