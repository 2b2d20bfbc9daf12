/* The shell on COM1: one row of `commands` per command. */
#include "demo.h"

#define LINE_SIZE 80
#define ISA_DEBUG_EXIT 0xF4
#define FIB_LIMIT 30

struct command {
    const char *name;
    const char *arguments;
    const char *help;
    uint32_t argument_count;
    void (*run)(const uint64_t *arguments);
};

static void run_ticks(const uint64_t *arguments)
{
    (void)arguments;
    print("%lu ticks, %lu page faults, shared counter %lu\n", ticks, page_faults, shared_counter);
}

static void run_cpus(const uint64_t *arguments)
{
    (void)arguments;
    for (uint32_t i = 0; i < MAX_CPUS; i++)
        if (cpus[i].online)
            print("cpu %u: apic id %u, %lu ticks, %lu page faults, %lu steps\n", i, cpus[i].apic_id,
                  cpus[i].ticks, cpus[i].page_faults, worker_counters[i]);
}

static void run_tasks(const uint64_t *arguments)
{
    (void)arguments;
    struct task *first = run_queue, *task = first;
    do {
        print("%s: %lu runs, last result %lu\n", task->name, task->runs, task->result);
        task = task->next;
    } while (task != first);
}

static void run_fib(const uint64_t *arguments)
{
    if (arguments[0] > FIB_LIMIT)
        print("at most %u\n", (uint32_t)FIB_LIMIT);
    else
        print("%lu\n", fib(arguments[0]));
}

static void run_fault(const uint64_t *arguments)
{
    (void)arguments;
    uint64_t *page = demand_next_page();
    *page = page_faults;
    print("touched 0x%lx, %lu page faults\n", (uint64_t)page, page_faults);
}

static void run_peek(const uint64_t *arguments)
{
    uint64_t value;
    if (probe_read((const uint64_t *)arguments[0], &value))
        print("0x%lx\n", value);
    else
        print("0x%lx cannot be read\n", arguments[0]);
}

static void run_poke(const uint64_t *arguments)
{
    if (!probe_write((uint64_t *)arguments[0], arguments[1]))
        print("0x%lx cannot be written\n", arguments[0]);
}

static void run_raise(const uint64_t *arguments)
{
    switch (arguments[0]) {
    case 0:
        raise_divide_error();
        break;
    case 3:
        __asm__ volatile("int3");
        break;
    case 6:
        raise_undefined_opcode();
        break;
    case 13:
        raise_general_protection();
        break;
    default:
        print("one of 0, 3, 6, 13\n");
        return;
    }
    print("exception %lu raised and handled\n", arguments[0]);
}

static void run_busy(const uint64_t *arguments)
{
    workers_busy = arguments[0] != 0;
}

static void run_spin(const uint64_t *arguments)
{
    uint64_t end = ticks + arguments[0];
    while (ticks < end)
        worker_step();
}

static void run_crash(const uint64_t *arguments)
{
    (void)arguments;
    triple_fault();
}

static void run_reboot(const uint64_t *arguments)
{
    (void)arguments;
    reboot();
}

static void run_poweroff(const uint64_t *arguments)
{
    (void)arguments;
    power_off();
}

static void run_exit(const uint64_t *arguments)
{
    outb(ISA_DEBUG_EXIT, (uint8_t)arguments[0]);
    sleep_ticks(TICK_HZ);
    print("there is no isa-debug-exit device\n");
}

static void run_help(const uint64_t *arguments);

static const struct command commands[] = {
    {"help", "", "this list", 0, run_help},
    {"ticks", "", "timer ticks, page faults, shared counter", 0, run_ticks},
    {"cpus", "", "a line for each processor", 0, run_cpus},
    {"tasks", "", "a line for each task in the ring", 0, run_tasks},
    {"fib", " N", "the Nth Fibonacci number, by recursion", 1, run_fib},
    {"fault", "", "touch a page that is not mapped yet", 0, run_fault},
    {"peek", " ADDR", "read 8 bytes", 1, run_peek},
    {"poke", " ADDR V", "write 8 bytes", 2, run_poke},
    {"raise", " V", "raise exception 0, 3, 6 or 13", 1, run_raise},
    {"busy", " 0|1", "let the workers sleep between ticks, or not", 1, run_busy},
    {"spin", " N", "work for N ticks without sleeping", 1, run_spin},
    {"crash", "", "triple fault", 0, run_crash},
    {"reboot", "", "reset the machine", 0, run_reboot},
    {"poweroff", "", "switch the machine off", 0, run_poweroff},
    {"exit", " N", "write N to isa-debug-exit, port 0xf4", 1, run_exit},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])
#define MAX_ARGUMENTS 2

static void run_help(const uint64_t *arguments)
{
    (void)arguments;
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        print("%s%s: %s\n", commands[i].name, commands[i].arguments, commands[i].help);
}

/* Cut the next word off `*line`; NULL when there is none. */
static char *next_word(char **line)
{
    char *start = *line;
    while (*start == ' ')
        start++;
    if (!*start)
        return NULL;
    char *end = start;
    while (*end && *end != ' ')
        end++;
    *line = *end ? end + 1 : end;
    *end = 0;
    return start;
}

static uint32_t digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0');
    if (c >= 'a' && c <= 'f')
        return (uint32_t)(c - 'a' + 10);
    return 16;
}

/* Decimal, or hexadecimal after 0x. Returns 0 when `text` is not a number. */
static int parse_number(const char *text, uint64_t *value)
{
    uint32_t base = 10;
    if (text[0] == '0' && text[1] == 'x') {
        base = 16;
        text += 2;
    }
    if (!*text)
        return 0;
    for (*value = 0; *text; text++) {
        uint32_t digit = digit_value(*text);
        if (digit >= base)
            return 0;
        *value = *value * base + digit;
    }
    return 1;
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

void shell_execute(char *line)
{
    char *name = next_word(&line);
    if (!name)
        return;
    const struct command *command = find_command(name);
    if (!command) {
        print("no command %s; try help\n", name);
        return;
    }
    uint64_t arguments[MAX_ARGUMENTS] = {0};
    for (uint32_t i = 0; i < command->argument_count; i++) {
        char *word = next_word(&line);
        if (!word || !parse_number(word, &arguments[i])) {
            print("usage: %s%s\n", command->name, command->arguments);
            return;
        }
    }
    command->run(arguments);
}

/* Work and sleep until a byte comes. Interrupts are off between the last look and HLT, so a
 * byte cannot come unnoticed in between. */
static char read_char(void)
{
    for (;;) {
        disable_interrupts();
        int c = serial_read();
        if (c >= 0) {
            enable_interrupts();
            return (char)c;
        }
        wait_for_interrupt();
        worker_step();
    }
}

static void read_line(char *line)
{
    uint32_t length = 0;
    for (;;) {
        char c = read_char();
        if (c == '\r' || c == '\n')
            break;
        if ((c == '\b' || c == 0x7F) && length > 0) {
            length--;
            print("\b \b");
        } else if (c >= ' ' && c < 0x7F && length < LINE_SIZE - 1) {
            line[length++] = c;
            print("%c", c);
        }
    }
    line[length] = 0;
    print("\n");
}

void shell(void)
{
    char line[LINE_SIZE];
    for (;;) {
        print("demo> ");
        read_line(line);
        shell_execute(line);
    }
}
