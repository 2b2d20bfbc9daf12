# What keeps a `pc` of two vCPUs busy: the first one in protected mode with 4 KiB pages and a TLB that is flushed all
# the time, the second one in real mode; the PIT's interrupts through the 8259 pair, interrupts between the
# processors, #GP, #PF, halts, string instructions across pages, and ports. Counters at 2000h.
        .globl  _start
        .set    MSR_X2APIC_EOI, 0x80b
        .set    MSR_X2APIC_ICR, 0x830
        .set    PIT_COUNT, 5966                 # 5,000 ticks at a million a second; an access to a device takes 500
        .set    DIRECTORY, 0x10000
        .set    TABLE, 0x11000
        .set    IDT, 0x12000
        .set    FROM, 0x30ffb                   # nine bytes from here, and
        .set    TO, 0x40ffd                     # to here, cross into the next page
        .set    UNMAPPED, 0x400000

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
        .macro  gate vector, handler            # offsets of handlers have 16 bits
        movl    $(8 << 16), %eax
        movw    $\handler, %ax
        movl    %eax, IDT + 8 * \vector
        movl    $0x8e00, IDT + 8 * \vector + 4
        .endm

        .code16
_start: cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    $message16, 4 * 0x40            # for the second one
        movw    %ax, 4 * 0x40 + 2
        lgdt    gdtr
        movl    $1, %eax
        movl    %eax, %cr0
        ljmp    $8, $first

        .align  8
gdt:    .quad   0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:   .word   23
        .long   gdt
idtr:   .word   0x41 * 8 - 1
        .long   IDT

        .code32
first:  movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    $0x7000, %esp
        movl    $TABLE + 7, DIRECTORY
        movl    $7, %eax
        movl    $TABLE, %edi
1:      stosl
        addl    $0x1000, %eax
        cmpl    $TABLE + 0x1000, %edi
        jne     1b
        gate    13, general_protection
        gate    14, page_fault
        gate    0x20, timer
        gate    0x40, message
        lidt    idtr
        movl    $DIRECTORY, %eax
        movl    %eax, %cr3
        movl    $0x80010001, %eax
        movl    %eax, %cr0
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
busy:   incl    0x2000
        put     0x80, 0x55
        inb     $0x80, %al
        movl    $FROM, %esi
        movl    $TO, %edi
        movl    $9, %ecx
        rep movsb
        msr     0x12345, 0, 0                   # #GP
        movl    UNMAPPED, %eax                  # #PF
        andb    $~0x60, TABLE + 4 * (TO >> 12)  # neither accessed nor dirty
        movl    %cr3, %eax
        movl    %eax, %cr3
        call    elsewhere
        msr     MSR_X2APIC_ICR, 1, 0x40
        testb   $3, 0x2000
        jnz     busy
        hlt
        jmp     busy

general_protection:
        addl    $4, %esp
        addl    $2, (%esp)
        iret
page_fault:
        addl    $4, %esp
        addl    $5, (%esp)
        iret
timer:  pushl   %eax
        incl    0x2004
        put     0x20, 0x20
        popl    %eax
        iret
message:
        pushal
        msr     MSR_X2APIC_EOI, 0, 0
        incl    0x2008
        popal
        iret

        .org    0x400
        .code16
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movw    $0x6000, %sp
        apic_on
        sti
second: incl    0x200c
        testb   $7, 0x200c
        jnz     second
        msr     MSR_X2APIC_ICR, 0, 0x40
        hlt
        jmp     second
message16:
        pushal
        msr     MSR_X2APIC_EOI, 0, 0
        incl    0x2010
        popal
        iretw

        .org    0x13fe                          # the first instruction crosses into the page at 9000h
        .code32
elsewhere:
        movl    $1, %ebx
        incl    0x2014
        ret
