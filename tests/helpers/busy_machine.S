# A boot sector that keeps a `pc` of two vCPUs busy with interrupts: the PIT's through the 8259 pair, interrupts
# between the processors, #GP, halts, string instructions and ports. Counters at 2000h.
        .code16
        .globl  _start
        .set    MSR_X2APIC_EOI, 0x80b
        .set    MSR_X2APIC_ICR, 0x830
        .set    PIT_COUNT, 5966                 # 5,000 ticks at a million a second; an access to a device takes 500

        .macro  msr number, high, low
        movl    $\number, %ecx
        movl    $\high, %edx
        movl    $\low, %eax
        wrmsr
        .endm
        .macro  put port, value
        movb    $\value, %al
        outb    %al, $\port
        .endm
        .macro  apic_on
        movl    $0x1b, %ecx
        rdmsr
        orl     $0xc00, %eax
        wrmsr
        msr     0x80f, 0, 0x1ff
        .endm

_start: cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7000, %sp
        movw    $general_protection, 4 * 13
        movw    %ax, 4 * 13 + 2
        movw    $timer, 4 * 0x20
        movw    %ax, 4 * 0x20 + 2
        movw    $message, 4 * 0x40
        movw    %ax, 4 * 0x40 + 2
        put     0x20, 0x11
        put     0x21, 0x20
        put     0x21, 0x04
        put     0x21, 0x01
        put     0x21, 0xfe
        put     0x43, 0x34
        put     0x40, PIT_COUNT & 0xff
        put     0x40, PIT_COUNT >> 8
        apic_on
        msr     MSR_X2APIC_ICR, 1, 0x4500       # INIT
        msr     MSR_X2APIC_ICR, 1, 0x4608       # SIPI: 8000h
        sti
first:  incw    0x2000
        put     0x80, 0x55
        inb     $0x80, %al
        movw    $0x2100, %si
        movw    $0x2200, %di
        movw    $9, %cx
        rep movsb
        msr     0x12345, 0, 0                   # #GP
        msr     MSR_X2APIC_ICR, 1, 0x40
        testb   $3, 0x2000
        jnz     first
        hlt
        jmp     first

general_protection:
        pushw   %bp
        movw    %sp, %bp
        addw    $2, 2(%bp)
        popw    %bp
        iretw
timer:  pushw   %ax
        incw    0x2004
        put     0x20, 0x20
        popw    %ax
        iretw
message:
        pushal
        msr     MSR_X2APIC_EOI, 0, 0
        incw    0x2006
        popal
        iretw

        .org    0x400
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movw    $0x6000, %sp
        apic_on
        sti
second: incw    0x2008
        testb   $7, 0x2008
        jnz     second
        msr     MSR_X2APIC_ICR, 0, 0x40
        hlt
        jmp     second
