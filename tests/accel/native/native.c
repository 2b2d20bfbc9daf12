/*
 * native.c - executes single instructions on the host CPU, in a child process.
 *
 * The child runs with RFLAGS.TF set, so that every instruction (and every REP iteration) ends in SIGTRAP; faults end in
 * their own signals. The signal handler stores the interrupted state as the outcome of case n and replaces it by the
 * input of case n + 1, so one signal return per case is all it costs. The last case gives back the state from which the
 * batch was entered. The segment registers are those of Linux: CS 33H (64-bit) or 23H (32-bit), SS = DS = ES = 2BH.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include "oracle.h"

static struct ring *ring;
static int to_child = -1, from_child = -1;
static pid_t child = -1;

/* ---- in the child --------------------------------------------------------------------------------------- */

static u8 *code_alias, *data_alias;
static u64 own_fs, own_gs;
static ucontext_t entry;       /* where the batch was entered */
static u8 entry_fp[832];       /* x87, SSE, header, AVX */
static u32 running;            /* the case under way; BATCH: none */

static const int GREG[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                             REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
/* The signal frame's area has the standard XSAVE layout (SDM vol. 1, "XSAVE Area"). */
enum { XS_BV = 512, XS_YMM = 576, XS_SW_MAGIC = 464, XS_SW_SIZE = 464 + 16 };

static void store(const ucontext_t *uc, int sig, struct result *out) {
    const greg_t *g = uc->uc_mcontext.gregs;
    const u8 *fp = (const u8 *)uc->uc_mcontext.fpregs;
    struct state *s = &out->s;
    u64 bv;
    memcpy(&bv, fp + XS_BV, 8);
    for (int i = 0; i < 16; i++) s->gpr[i] = (u64)g[GREG[i]];
    s->rip = (u64)g[REG_RIP];
    s->flags = (u64)g[REG_EFL];
    memcpy(&s->fcw, fp, 2);
    memcpy(&s->fsw, fp + 2, 2);
    s->ftw = fp[4];
    memcpy(&s->mxcsr, fp + 24, 4);
    for (int i = 0; i < 8; i++) memcpy(s->st[i], fp + 32 + 16 * i, 10);
    if (!(bv & 1)) s->fcw = 0x37f, s->fsw = 0, s->ftw = 0, memset(s->st, 0, sizeof s->st);
    for (int i = 0; i < 16; i++) {
        if (bv & 2) memcpy(s->ymm[i], fp + 160 + 16 * i, 16);
        else memset(s->ymm[i], 0, 16);
        if (bv & 4) memcpy(s->ymm[i] + 16, fp + XS_YMM + 16 * i, 16);
        else memset(s->ymm[i] + 16, 0, 16);
    }
    u64 trap = (u64)g[REG_TRAPNO];
    s->outcome = sig == SIGTRAP && trap == 1 ? STEPPED : FAULTED;
    s->vector = s->outcome == STEPPED ? 0 : (u8)trap;
    s->error = s->outcome == STEPPED ? 0 : (u32)g[REG_ERR];
    s->cr2 = s->outcome == FAULTED && trap == 14 ? (u64)g[REG_CR2] : 0;
    memcpy(out->data, data_alias, DATA_SIZE);
}

static void prepare(ucontext_t *uc, const struct oracle_case *k) {
    greg_t *g = uc->uc_mcontext.gregs;
    u8 *fp = (u8 *)uc->uc_mcontext.fpregs;
    const struct state *s = &k->in;
    for (int i = 0; i < 16; i++) g[GREG[i]] = (greg_t)s->gpr[i];
    g[REG_RIP] = (greg_t)s->rip;
    g[REG_EFL] = (greg_t)(s->flags | FL_TF | FL_IF | 2);
    u64 csgsfs = (u64)g[REG_CSGSFS];
    g[REG_CSGSFS] = (greg_t)((csgsfs & 0x0000ffffffff0000ull) | (k->bits == 64 ? 0x33 : 0x23) | 0x2bull << 48);
    memset(fp, 0, XS_SW_MAGIC);
    memcpy(fp, &s->fcw, 2);
    memcpy(fp + 2, &s->fsw, 2);
    fp[4] = s->ftw;
    memcpy(fp + 24, &s->mxcsr, 4);
    for (int i = 0; i < 8; i++) memcpy(fp + 32 + 16 * i, s->st[i], 10);
    u64 bv;
    memcpy(&bv, fp + XS_BV, 8);
    bv = (bv & 0x200) | 7; /* x87, SSE, AVX from here; PKRU as it was; AVX-512 state initial */
    memcpy(fp + XS_BV, &bv, 8);
    for (int i = 0; i < 16; i++) {
        memcpy(fp + 160 + 16 * i, s->ymm[i], 16);
        memcpy(fp + XS_YMM + 16 * i, s->ymm[i] + 16, 16);
    }
    for (u32 at = 0; at < k->length; at++)
        if (s->rip - CODE_AT + at < CODE_SIZE) code_alias[s->rip - CODE_AT + at] = k->bytes[at];
    memcpy(data_alias, ring->base, DATA_SIZE);
    for (int i = 0; i < 3; i++) memcpy(data_alias + k->patch[i].at, k->patch[i].bytes, k->patch[i].size);
}

static void set_bases(u64 fs, u64 gs) { __asm__ volatile("wrfsbase %0\n\twrgsbase %1" : : "r"(fs), "r"(gs)); }

/* Nothing here may use thread-local storage until the bases are restored, nor after they are set. */
__attribute__((used)) static void on_signal(int sig, siginfo_t *info, ucontext_t *uc) {
    (void)info;
    u64 fs, gs;
    __asm__ volatile("rdfsbase %0\n\trdgsbase %1" : "=r"(fs), "=r"(gs));
    set_bases(own_fs, own_gs);
    u32 next = ring->first;
    if (running < BATCH) {
        store(uc, sig, &ring->results[running]);
        ring->results[running].s.fs_base = fs;
        ring->results[running].s.gs_base = gs;
        next = running + 1;
        ring->done = next;
    } else {
        entry = *uc;
        memcpy(entry_fp, uc->uc_mcontext.fpregs, sizeof entry_fp);
    }
    if (next == ring->count) {
        memcpy(uc->uc_mcontext.fpregs, entry_fp, sizeof entry_fp);
        memcpy(uc->uc_mcontext.gregs, entry.uc_mcontext.gregs, sizeof entry.uc_mcontext.gregs);
        running = BATCH;
        return;
    }
    running = next;
    const struct oracle_case *k = &ring->cases[next];
    prepare(uc, k);
    set_bases(k->in.fs_base, k->in.gs_base);
}

/* RFLAGS.AC survives into a handler: clear it before anything unaligned happens. NT and ID survive a signal return:
 * clear them for the next case. */
__attribute__((naked, used)) static void signal_entry(void) {
    __asm__("pushfq\n\tandl $0xffdbbfff,(%rsp)\n\tpopfq\n\tjmp on_signal");
}

static void map_fixed(int fd, off_t at, u64 linear, size_t size, int prot) {
    void *p = mmap((void *)linear, size, prot, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd, at);
    if (p != (void *)linear) _exit(3);
}

static void child_main(int in, int out) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int fd = memfd_create("oracle", 0);
    if (fd < 0 || ftruncate(fd, CODE_SIZE + DATA_SIZE + PAGE)) _exit(3);
    u8 *alias = mmap(NULL, CODE_SIZE + DATA_SIZE + PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (alias == MAP_FAILED) _exit(3);
    memset(alias, 0xcc, CODE_SIZE);
    memset(alias + CODE_SIZE, 0, DATA_SIZE + PAGE);
    map_fixed(fd, 0, CODE_AT, CODE_SIZE, PROT_READ | PROT_EXEC);
    map_fixed(fd, CODE_SIZE, DATA_AT, DATA_SIZE, PROT_READ | PROT_WRITE);
    map_fixed(fd, CODE_SIZE + DATA_SIZE, RONLY_AT, PAGE, PROT_READ);
    for (u64 a = DATA_AT; a < DATA_AT + DATA_SIZE; a += PAGE) *(volatile u8 *)a = 0;
    for (u64 a = CODE_AT; a < CODE_AT + CODE_SIZE; a += PAGE) (void)*(volatile u8 *)a;
    (void)*(volatile u8 *)RONLY_AT;
    code_alias = alias;
    data_alias = alias + CODE_SIZE;
    stack_t stack = {.ss_size = 256 << 10};
    stack.ss_sp = mmap(NULL, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    sigaltstack(&stack, NULL);
    struct sigaction act = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    act.sa_sigaction = (void (*)(int, siginfo_t *, void *))(void *)signal_entry;
    const int caught[] = {SIGTRAP, SIGSEGV, SIGILL, SIGFPE, SIGBUS};
    for (unsigned i = 0; i < sizeof caught / sizeof *caught; i++) sigaction(caught[i], &act, NULL);
    __asm__ volatile("movl $0x2b,%%eax\n\tmovl %%eax,%%ds\n\tmovl %%eax,%%es" : : : "eax");
    __asm__ volatile("rdfsbase %0\n\trdgsbase %1" : "=r"(own_fs), "=r"(own_gs));
    for (;;) {
        char c;
        if (read(in, &c, 1) != 1) _exit(0);
        memcpy(alias + CODE_SIZE + DATA_SIZE, ring->ronly, PAGE);
        running = BATCH;
        if (ring->first < ring->count) __asm__ volatile("int3" : : : "memory");
        if (write(out, &c, 1) != 1) _exit(0);
    }
}

/* ---- in the tool ------------------------------------------------------------------------------------------- */

static int spawn(void) {
    int a[2], b[2];
    if (pipe(a) || pipe(b)) return -1;
    child = fork();
    if (child < 0) return -1;
    if (child == 0) {
        close(a[1]);
        close(b[0]);
        child_main(a[0], b[1]);
    }
    close(a[0]);
    close(b[1]);
    to_child = a[1];
    from_child = b[0];
    return 0;
}

int native_start(struct ring **out) {
    signal(SIGPIPE, SIG_IGN);
    ring = mmap(NULL, sizeof *ring, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (ring == MAP_FAILED) return -1;
    *out = ring;
    return spawn();
}

void native_end(void) {
    close(to_child);
    close(from_child);
    int status;
    waitpid(child, &status, 0);
    child = -1;
}

void native_post(void) {
    ring->first = ring->done = 0;
    if (write(to_child, "g", 1) != 1) ring->done = 0; /* native_wait() finds out */
}

/* A child that died is replaced; the case it died of is LOST and the new one goes on behind it. */
void native_wait(void) {
    char c;
    while (read(from_child, &c, 1) != 1) {
        native_end();
        u32 bad = ring->done;
        if (bad >= ring->count) exit(3);
        ring->results[bad].s.outcome = LOST;
        ring->first = ring->done = bad + 1;
        if (spawn()) exit(3);
        if (write(to_child, "g", 1) != 1) exit(3);
    }
}
