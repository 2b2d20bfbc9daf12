/* The bare-metal program: console, descriptor table, the paging kernels' window, time. */
#include "bench.h"

#define SEL_CODE64 0x08
#define COM1 0x3F8
#define LSR (COM1 + 5)
#define LSR_THR_EMPTY 0x20
#define DEBUG_EXIT 0xF4
#define EXIT_GOOD 0x10 /* process status 33 */
#define EXIT_BAD 0x11  /* process status 35 */

#define VECTOR_PAGE_FAULT 14
#define VECTOR_INTERRUPT 0x80
#define VECTORS 0x81
#define GATE_INTERRUPT64 0x8E

#define CPUID_1_ECX_XSAVE (1u << 26)
#define CPUID_1_ECX_AVX (1u << 28)
#define CPUID_7_EBX_AVX2 (1u << 5)
#define CR4_OSXSAVE (1ul << 18)
#define XCR0_X87_SSE_AVX 7

#define PIT_CHANNEL2 0x42
#define PIT_COMMAND 0x43
#define PIT_CHANNEL2_MODE0 0xB0 /* both bytes, interrupt on terminal count, binary */
#define PIT_HZ 1193182
#define PORT_B 0x61
#define PORT_B_GATE2 0x01
#define PORT_B_SPEAKER 0x02
#define PORT_B_OUT2 0x20
#define CALIBRATION_COUNTS 11932 /* 10 ms */

#define APIC_ICR_LOW (*(volatile uint32_t *)0xFEE00300)
#define ICR_TO_OTHERS (3u << 18)
#define ICR_ASSERT (1u << 14)
#define ICR_INIT (5u << 8)
#define ICR_STARTUP (6u << 8)
#define DEVICE_GIB 3 /* the local APIC is in the fourth GiB, */
#define DEVICE_ENTRY 0x1F7 /* in this 2 MiB page of it */
#define DEVICE_BASE 0xFEE00000
#define PTE_DEVICE 0x9B /* present, writable, not cached, 2 MiB */
#define STARTUP_WAIT_MS 20

#define ENTRIES 512

/* Xen's public header start_info.h, as far as it is needed here. */
struct start_info {
    uint32_t magic, version, flags, modules;
    uint64_t module_list, command_line;
};

struct gate {
    uint16_t offset_low, selector;
    uint8_t stack, type;
    uint16_t offset_middle;
    uint32_t offset_high, reserved;
};

/* system.S */
kernel_function kernel_fault, kernel_cr3, kernel_int, kernel_port;
extern uint8_t exception_stubs[][16], fault_entry[], interrupt_entry[];

/* boot.S */
extern uint64_t pml4[ENTRIES], page_directory_pointers[ENTRIES];
extern const uint8_t trampoline[], trampoline_end[];
extern volatile uint32_t processors; /* that run, the first included */

#define PAGE __attribute__((aligned(PAGE_SIZE)))
PAGE uint64_t window_table[ENTRIES];
PAGE uint64_t other_pml4[ENTRIES];
uint64_t window_entries[WINDOW_PAGES];
static PAGE uint64_t pointers[2][ENTRIES], directories[2][ENTRIES], other_table[ENTRIES];
static PAGE uint64_t frames[2][WINDOW_PAGES][ENTRIES];
static PAGE uint8_t patch_page[PAGE_SIZE];
static struct gate idt[VECTORS];

static void outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t inb(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};

static struct cpuid cpuid(uint32_t leaf)
{
    struct cpuid r;
    __asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(0));
    return r;
}

void put_char(char c)
{
    while (!(inb(LSR) & LSR_THR_EMPTY))
        ;
    outb(COM1, (uint8_t)c);
}

static void put_text(const char *text)
{
    while (*text)
        put_char(*text++);
}

static void put_hex(uint64_t value)
{
    for (int shift = 60; shift >= 0; shift -= 4)
        put_char("0123456789abcdef"[value >> shift & 15]);
}

static _Noreturn void leave(uint8_t value)
{
    outb(DEBUG_EXIT, value);
    for (;;)
        __asm__ volatile("cli; hlt");
}

/* `stack`: vector, error code, RIP, as the stub and the processor pushed them. */
void unexpected_exception(const uint64_t *stack)
{
    uint64_t cr2;
    __asm__ volatile("movq %%cr2, %0" : "=r"(cr2));
    put_text("bench error exception ");
    put_hex(stack[0]);
    put_text(" code ");
    put_hex(stack[1]);
    put_text(" rip ");
    put_hex(stack[2]);
    put_text(" cr2 ");
    put_hex(cr2);
    put_char('\n');
    leave(EXIT_BAD);
}

static void set_gate(int vector, const void *handler)
{
    uint64_t address = (uint64_t)handler;
    idt[vector] = (struct gate){(uint16_t)address, SEL_CODE64, 0, GATE_INTERRUPT64,
                                (uint16_t)(address >> 16), (uint32_t)(address >> 32), 0};
}

static void load_idt(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) pointer = {sizeof idt - 1, (uint64_t)idt};
    for (int vector = 0; vector < 32; vector++)
        set_gate(vector, exception_stubs[vector]);
    set_gate(VECTOR_INTERRUPT, interrupt_entry);
    __asm__ volatile("lidt %0" : : "m"(pointer));
}

static uint64_t entry(const void *target)
{
    return (uint64_t)target | PTE_PRESENT_WRITABLE;
}

/* Two spaces that differ in the window: page p of space s starts with 100 * s + p. */
static const char *prepare_window(void)
{
    uint64_t *spaces[2] = {pml4, other_pml4}, *tables[2] = {window_table, other_table};
    other_pml4[0] = pml4[0];
    for (uint64_t s = 0; s < 2; s++) {
        spaces[s][WINDOW_BASE >> 39] = entry(pointers[s]);
        pointers[s][0] = entry(directories[s]);
        directories[s][0] = entry(tables[s]);
        for (uint64_t p = 0; p < WINDOW_PAGES; p++) {
            frames[s][p][0] = 100 * s + p;
            tables[s][p] = entry(frames[s][p]);
            if (s == 0)
                window_entries[p] = tables[s][p];
        }
    }
    __asm__ volatile("movq %0, %%cr3" : : "r"(pml4) : "memory");
    return 0;
}

/* Any other page fault would go on for ever in the kernel's own handler. */
static uint64_t run_fault(uint64_t iterations)
{
    set_gate(VECTOR_PAGE_FAULT, fault_entry);
    uint64_t result = kernel_fault(iterations);
    set_gate(VECTOR_PAGE_FAULT, exception_stubs[VECTOR_PAGE_FAULT]);
    return result;
}

const char *prepare_patch(void)
{
    patch_code = patch_page;
    return 0;
}

const char *prepare_avx2(void)
{
    uint32_t wanted = CPUID_1_ECX_XSAVE | CPUID_1_ECX_AVX;
    if ((cpuid(1).ecx & wanted) != wanted || cpuid(0).eax < 7 || !(cpuid(7).ebx & CPUID_7_EBX_AVX2))
        return "the processor has no AVX2";
    uint64_t cr4;
    __asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("movq %0, %%cr4" : : "r"(cr4 | CR4_OSXSAVE));
    __asm__ volatile("xsetbv" : : "a"(XCR0_X87_SSE_AVX), "d"(0), "c"(0));
    return 0;
}

/* TSC counts per second, measured against channel 2 of the PIT. */
static uint64_t tsc_hz(void)
{
    outb(PORT_B, (uint8_t)((inb(PORT_B) & ~PORT_B_SPEAKER) | PORT_B_GATE2));
    outb(PIT_COMMAND, PIT_CHANNEL2_MODE0);
    outb(PIT_CHANNEL2, CALIBRATION_COUNTS & 0xFF);
    outb(PIT_CHANNEL2, CALIBRATION_COUNTS >> 8);
    uint64_t start = read_tsc();
    while (!(inb(PORT_B) & PORT_B_OUT2))
        ;
    return (read_tsc() - start) * PIT_HZ / CALIBRATION_COUNTS;
}

static uint64_t counts_per_ms;

static const char *prepare_delay(void)
{
    counts_per_ms = tsc_hz() / 1000;
    return 0;
}

/* Milliseconds waited for one by one, as kernels wait: read the TSC, pause, compare. */
static uint64_t kernel_delay(uint64_t iterations)
{
    for (uint64_t i = 0; i < iterations; i++) {
        uint64_t start = read_tsc();
        while (read_tsc() - start < counts_per_ms)
            __asm__ volatile("pause");
    }
    return iterations;
}

static PAGE uint64_t device_directory[ENTRIES];
static volatile uint64_t share; /* of the iterations, for each processor; 0: wait */
static volatile uint32_t shares_done;
static volatile uint64_t shares_result;

/* What the other processors run; their kernel needs no memory. */
void processor_main(void)
{
    while (!share)
        __asm__ volatile("pause");
    uint64_t result = kernel_alu(share);
    __atomic_fetch_add(&shares_result, result, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&shares_done, 1, __ATOMIC_SEQ_CST);
}

/* Starts all other processors (SDM vol. 3, "MP Initialization Protocol Algorithm"), but once. */
static const char *prepare_robin(void)
{
    if (processors > 1)
        return "its processors have been used";
    for (uint64_t i = 0; i < (uint64_t)(trampoline_end - trampoline); i++)
        ((volatile uint8_t *)TRAMPOLINE)[i] = trampoline[i];
    device_directory[DEVICE_ENTRY] = DEVICE_BASE | PTE_DEVICE;
    page_directory_pointers[DEVICE_GIB] = entry(device_directory);
    prepare_delay();
    APIC_ICR_LOW = ICR_TO_OTHERS | ICR_ASSERT | ICR_INIT;
    kernel_delay(STARTUP_WAIT_MS);
    APIC_ICR_LOW = ICR_TO_OTHERS | ICR_ASSERT | ICR_STARTUP | TRAMPOLINE >> 12;
    kernel_delay(STARTUP_WAIT_MS);
    return 0;
}

/* The alu kernel on all processors at once, each with its share. */
static uint64_t kernel_robin(uint64_t iterations)
{
    uint32_t others = processors - 1;
    shares_result = 0;
    share = iterations / processors;
    uint64_t result = kernel_alu(share);
    while (shares_done < others)
        __asm__ volatile("pause");
    return result + shares_result;
}

static const struct kernel system_kernels[] = {
    {"fault", run_fault, prepare_window},
    {"cr3", kernel_cr3, prepare_window},
    {"int", kernel_int, 0},
    {"port", kernel_port, 0},
    {"delay", kernel_delay, prepare_delay},
    {"robin", kernel_robin, prepare_robin},
    {0, 0, 0},
};

void guest_main(const struct start_info *info)
{
    load_idt();
    const char *line = info->command_line ? (const char *)info->command_line : "";
    leave(bench_run(line, system_kernels) ? EXIT_BAD : EXIT_GOOD);
}
