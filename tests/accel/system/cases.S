/*
 * cases.S - a 64 KiB boot ROM that provokes the system behaviour of an x86-64 CPU and reports it on port 0xE9.
 *
 * It is run on the core and on QEMU; the two logs must be equal. Checks that QEMU does not make (segment limits of data,
 * some reserved bits) are assembled only with STRICT defined, and judged by the manual. Each case prints `C` and its number (16 bits), then what
 * it observes. An exception prints `E`, vector (8), error code (32, or 0), EIP (32), CS (16) and EFLAGS (32, without the
 * arithmetic flags) and goes on with the next case. `V` and 32 bits is a value. Port 0xF4 ends the run.
 */
    .equ GDT, 0x1000
    .equ IDT, 0x2000
    .equ TSS, 0x3000
    .equ TSS_B, 0x3400
    .equ LDT, 0x3800
    .equ PML4, 0x10000
    .equ STACK0, 0x8000
    .equ STACK3, 0x9000
    .equ RESUME, 0x700
    .equ CASENO, 0x708
    .equ HITS, 0x70c
    .equ GDTR, 0x720
    .equ IDTR, 0x730

    /* selectors */
    .equ CODE0, 0x08
    .equ DATA0, 0x10
    .equ CODE3, 0x1b
    .equ DATA3, 0x23
    .equ CODE16, 0x28
    .equ NP_DATA, 0x30
    .equ XONLY, 0x38
    .equ CONFORM, 0x40
    .equ DOWN, 0x48
    .equ SMALL, 0x50
    .equ RODATA, 0x58
    .equ TSS_SEL, 0x60
    .equ TSSB_SEL, 0x68
    .equ GATE, 0x70
    .equ TASKGATE, 0x78
    .equ NP_CODE, 0x80
    .equ LDT_SEL, 0x88
    .equ NP_GATE, 0x90
    .equ CODE64, 0x98
    .equ GATE64, 0xa0   /* and 0xa8 */
    .equ TSS64, 0xb0    /* and 0xb8 */
    .equ CODE3_32, 0xc3 /* SYSRET: +0 code 32, +8 data, +16 code 64 */
    .equ DATA3_64, 0xcb
    .equ CODE3_64, 0xd3
    .equ GATE16, 0xd8
    .equ GDT_LAST, 0xdf

    .text
    .code16
BASE:                           /* linear f0000 */
start16:
    cli
    mov %cs:(gdtr_real - BASE), %eax
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $STACK0, %esp

/* ---- real mode: handlers report and return to RESUME ---- */
    .macro RCASE n
    movw $\n, CASENO
    movw $9f - BASE, RESUME
    movw $\n, %ax
    call rcase
    .endm
    .macro VALUE16
    call rvalue
    .endm
    .macro REND
9:  xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $STACK0, %esp
    .endm

    /* IVT: vectors 0-31 */
    xor %di, %di
    mov $rstub0 - BASE, %ax
1:  mov %ax, (%di)
    movw $0xf000, 2(%di)
    add $4, %di
    add $8, %ax
    cmp $128, %di
    jb 1b

    RCASE 1
    ud2
    REND
    RCASE 2
    int3
    REND
    RCASE 3
    mov $0x7f, %al
    add $1, %al
    into
    REND
    RCASE 4
    int $0x11
    REND
#ifdef STRICT
    RCASE 5                     /* word access over the segment end */
    mov $0xffff, %bx
    mov (%bx), %ax
    REND
#endif
#ifdef STRICT
    RCASE 6
    mov $0xffff, %bp            /* #SS */
    mov (%bp), %ax
    REND
#endif
    RCASE 7
    xor %dx, %dx
    xor %cx, %cx
    mov $1, %ax
    div %cx
    REND
    RCASE 8                     /* protected-mode instructions */
    sldt %ax
    REND
    RCASE 9
    lar %ax, %ax
    REND
#ifdef STRICT
    RCASE 10                    /* PG without PE */
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    REND
#endif
    RCASE 11
    smsw %ax
    movzwl %ax, %eax
    VALUE16
    pushfl
    pop %eax
    and $~0x8d5, %eax
    VALUE16
    REND
    RCASE 12                    /* NT, IOPL, AC, ID through POPFD */
    pushl $0x3f7002
    popfl
    pushfl
    pop %eax
    and $~0x8d5, %eax
    VALUE16
    pushl $2
    popfl
    REND
    RCASE 13                    /* TF: #DB after the next instruction */
    pushf
    pop %ax
    or $0x100, %ax
    push %ax
    popf
    nop
    nop
    REND
    RCASE 14                    /* IDT limit */
    lidt %cs:(idtr_small - BASE)
    int $0x10
9:  lidt %cs:(idtr_real - BASE)
    xor %ax, %ax
    mov %ax, %ss
    mov $STACK0, %esp
    RCASE 15                    /* LES, far CALL and RETF, IRETD */
    movl $0xf0001234, 0x600
    les 0x600, %si
    mov %es, %ax
    movzwl %ax, %eax
    shl $16, %eax
    mov %si, %ax
    VALUE16
    lcall $0xf000, $(rfar - BASE)
    mov %esp, %eax
    VALUE16
    pushfl
    pushl $0xf000
    pushl $1f - BASE
    iretl
1:  mov %esp, %eax
    VALUE16
    REND
    RCASE 16                    /* SP wraps */
    mov $2, %sp
    push %ax
    mov %esp, %eax
    VALUE16
    push %ax
    mov %esp, %eax
    VALUE16
    REND
    RCASE 17
    mov $0x100, %dx
    mov %dx, %ss
    mov %ss, %ax
    movzwl %ax, %eax
    VALUE16
    REND
    RCASE 18                    /* INT to a far address and IRET back keeps flags */
    movw $rint - BASE, 4*0x40
    movw $0xf000, 4*0x40+2
    std
    sti
    int $0x40
    pushfl
    pop %eax
    and $~0x8d5, %eax
    VALUE16
    cli
    cld
    REND
#ifdef STRICT
    RCASE 20
    mov %cr0, %eax
    mov $0x20000000, %eax       /* NW without CD */
    mov %eax, %cr0
    REND
#endif
#ifdef STRICT
    RCASE 21
    mov $0x80000000, %eax
    mov %eax, %cr4
    REND
#endif
    RCASE 22
    mov %dr4, %eax              /* alias of DR6 */
    VALUE16
    mov %cr4, %eax
    or $8, %eax
    mov %eax, %cr4
    mov %dr5, %eax
    REND
    RCASE 23                    /* general detect */
    mov $0x2400, %eax
    mov %eax, %dr7
    mov %dr0, %eax
9:  mov %dr6, %eax
    VALUE16
    mov %dr7, %eax
    VALUE16
    mov $0xffff0ff0, %eax
    mov %eax, %dr6
    REND

/* ---- on to protected mode ---- */
    call rtables
    lgdt %cs:(gdtr_real - BASE)
    lidt %cs:(idtr_prot - BASE)
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $CODE0, $start32

rfar:
    mov %esp, %eax
    call rvalue
    lret
rint:
    pushfl
    pop %eax
    and $~0x8d5, %eax
    call rvalue
    iret

rputc:
    out %al, $0xe9
    ret
rcase:
    push %ax
    mov $'C', %al
    out %al, $0xe9
    pop %ax
    out %al, $0xe9
    mov %ah, %al
    out %al, $0xe9
    ret
rvalue:                         /* eax */
    push %eax
    mov $'V', %al
    out %al, $0xe9
    pop %eax
rdword:
    push %eax
    push %cx
    mov $4, %cx
1:  out %al, $0xe9
    shr $8, %eax
    loop 1b
    pop %cx
    pop %eax
    ret

    .balign 8
rstub0:
    .set i, 0
    .rept 32
    .balign 8
    push $i
    jmp rcommon
    .set i, i + 1
    .endr
    .balign 8
rcommon:                        /* vector, ip, cs, flags */
    mov $'E', %al
    out %al, $0xe9
    pop %ax
    out %al, $0xe9
    xor %eax, %eax
    call rdword
    pop %ax
    movzwl %ax, %eax
    call rdword
    pop %ax
    out %al, $0xe9
    mov %ah, %al
    out %al, $0xe9
    pop %ax
    movzwl %ax, %eax
    and $~0x8d5, %eax
    call rdword
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %ss
    mov $STACK0, %esp
    xor %ax, %ax
    push %ax
    popf
    jmp *RESUME

rtables:                        /* copies of GDT, IDT and TSSs to RAM */
    push %ds
    mov $0xf000, %ax
    mov %ax, %ds
    mov $gdt - BASE, %si
    mov $GDT, %di
    mov $(gdt_end - gdt), %cx
    cld
    rep movsb
    pop %ds
    mov $IDT, %di               /* 256 interrupt gates; entries behind 31 are set up below */
    mov $stub0 - BASE, %ax
    mov $32, %cx
1:  mov %ax, (%di)
    movw $CODE0, 2(%di)
    movw $0x8e00, 4(%di)
    movw $0xf, 6(%di)
    add $8, %di
    add $16, %ax
    loop 1b
    ret

    .balign 8
gdtr_real: .word GDT_LAST; .long GDT
idtr_real: .word 0x3ff; .long 0
idtr_small: .word 0x3f; .long 0
idtr_prot: .word 0x7ff; .long IDT

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff    /* 08 code, CPL 0 */
    .quad 0x00cf93000000ffff    /* 10 data, CPL 0 */
    .quad 0x00cffb000000ffff    /* 18 code, CPL 3 */
    .quad 0x00cff3000000ffff    /* 20 data, CPL 3 */
    .quad 0x000f9b000000ffff    /* 28 16-bit code, base 0, limit fffff */
    .quad 0x00cf13000000ffff    /* 30 data, not present */
    .quad 0x00cf99000000ffff    /* 38 execute-only */
    .quad 0x00cf9f000000ffff    /* 40 conforming */
    .quad 0x00409700000007ff    /* 48 expand-down, limit 7ff */
    .quad 0x0040930000000fff    /* 50 data, limit fff */
    .quad 0x00cf91000000ffff    /* 58 read-only */
    .quad 0x0000890030000067  /* 60 TSS */
    .quad 0x0000890034000067    /* 68 TSS B */
    .quad 0x000fec0200080000 + (gate_target - BASE)   /* 70 call gate, DPL 3, 2 parameters */
    .quad 0x0000e50000680000    /* 78 task gate, DPL 3 */
    .quad 0x00cf1b000000ffff    /* 80 code, not present */
    .quad 0x0000820038000017    /* 88 LDT */
    .quad 0x00006c0000080000    /* 90 call gate, DPL 3, not present */
    .quad 0x00af9b000000ffff    /* 98 64-bit code */
    .quad 0x000fec0000980000 + (gate_target64 - BASE)   /* a0 64-bit call gate */
    .quad 0
    .quad 0x0000890030000067    /* b0 64-bit TSS */
    .quad 0
    .quad 0x00cffb000000ffff    /* c0 code 32, CPL 3 */
    .quad 0x00cff3000000ffff    /* c8 data, CPL 3 */
    .quad 0x00affb000000ffff    /* d0 code 64, CPL 3 */
    .quad 0x0000e40100280500   /* d8 16-bit call gate, DPL 3, 1 parameter */
gdt_end:

/* ---- protected mode ------------------------------------------------------------------------------------- */
    .code32
    .macro CASE n
    movl $9f, RESUME
    movl $\n, %eax
    call pcase
    .endm
    .macro VALUE
    call pvalue
    .endm
    .macro END
9:  call preset
    .endm
    .macro RING3 eflags=0x3002   /* goes on at CPL 3 */
    pushl $DATA3
    pushl $STACK3
    pushl $\eflags
    pushl $CODE3
    pushl $8f
    iretl
8:  mov $DATA3, %eax
    mov %ax, %ds
    .endm

    .balign 16
stub0:
    .set i, 0
    .rept 32
    .balign 16
    .if i == 8 || (i >= 10 && i <= 14) || i == 17
    nop
    nop
    .else
    pushl $0
    .endif
    pushl $i
    jmp pcommon
    .set i, i + 1
    .endr
    .balign 16
pcommon:                        /* vector, error, eip, cs, eflags */
    mov $DATA0, %ax
    mov %ax, %ds
    mov %ax, %es
    mov $'E', %al
    out %al, $0xe9
    popl %eax
    out %al, $0xe9
    popl %eax
    call pdword
    popl %eax
    call pdword
    popl %eax
    out %al, $0xe9
    mov %ah, %al
    out %al, $0xe9
    popl %eax
    and $~0x8d5, %eax
    call pdword
    mov $DATA0, %ax
    mov %ax, %ss
    mov $STACK0, %esp
    pushl $2
    popfl
    jmp *RESUME

pcase:
    push %eax
    mov $'C', %al
    out %al, $0xe9
    pop %eax
    out %al, $0xe9
    mov %ah, %al
    out %al, $0xe9
    ret
pvalue:
    push %eax
    mov $'V', %al
    out %al, $0xe9
    pop %eax
pdword:
    push %eax
    push %ecx
    mov $4, %ecx
1:  out %al, $0xe9
    shr $8, %eax
    loop 1b
    pop %ecx
    pop %eax
    ret
preset:                         /* back to a known state; called at CPL 0 */
    pop %ebx
    mov $DATA0, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $STACK0, %esp
    xor %eax, %eax
    mov %ax, %fs
    mov %ax, %gs
    jmp *%ebx

start32:
    mov $DATA0, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $STACK0, %esp
    xor %eax, %eax
    mov %ax, %fs
    mov %ax, %gs
    mov %eax, %cr4
    /* gates: 20 interrupt DPL 3, 21 not present, 22 interrupt DPL 0, 23 trap DPL 3, 24 task gate, 25 code selector null,
     * 26 16-bit interrupt gate, 27 bad type, 28 conforming target */
    movl $(CODE0 << 16) + (phandler - BASE), IDT + 8*0x20
    movl $0xfee00, IDT + 8*0x20 + 4
    movl $(CODE0 << 16) + (phandler - BASE), IDT + 8*0x21
    movl $0xf6e00, IDT + 8*0x21 + 4
    movl $(CODE0 << 16) + (phandler - BASE), IDT + 8*0x22
    movl $0xf8e00, IDT + 8*0x22 + 4
    movl $(CODE0 << 16) + (phandler - BASE), IDT + 8*0x23
    movl $0xfef00, IDT + 8*0x23 + 4
    movl $TSSB_SEL << 16, IDT + 8*0x24
    movl $0xe500, IDT + 8*0x24 + 4
    movl $(0 << 16) + (phandler - BASE), IDT + 8*0x25
    movl $0xfee00, IDT + 8*0x25 + 4
    movl $(CODE16 << 16) + 0x500, IDT + 8*0x26
    movl $0xe600, IDT + 8*0x26 + 4
    movl $(CODE0 << 16) + (phandler - BASE), IDT + 8*0x27
    movl $0xfec00, IDT + 8*0x27 + 4
    movl $(CONFORM << 16) + (phandler - BASE), IDT + 8*0x28
    movl $0xfee00, IDT + 8*0x28 + 4
    movl $(DATA0 << 16) + (phandler - BASE), IDT + 8*0x29
    movl $0xfee00, IDT + 8*0x29 + 4
    movl $(NP_CODE << 16) + (phandler - BASE), IDT + 8*0x2a
    movl $0xfee00, IDT + 8*0x2a + 4
    /* at 0x500: 16-bit code that jumps to the 32-bit handler */
    movl $0x00ea6690, 0x500
    movl $phandler16, 0x503
    movw $CODE0, 0x507
    /* TSS: SS0:ESP0, I/O map behind 0x68, ports 0x80-0x87 denied */
    mov $TSS, %edi
    mov $0x200, %ecx
    xor %eax, %eax
    rep stosl
    movl $STACK0, TSS + 4
    movl $DATA0, TSS + 8
    movw $0x88, TSS + 102       /* I/O map base; redirection bitmap in the 32 bytes before */
    movb $0xff, TSS + 0x88 + 0x10
    movw $0x87 + 0x20, GDT + TSS_SEL

#ifdef STRICT
    CASE 100
    ltr %ax
    END
#endif
    CASE 101
    mov $DATA0, %ax
    ltr %ax
    END
    CASE 102
    mov $0xfff8, %ax
    ltr %ax
    END
    CASE 103
    mov $TSS_SEL, %ax
    ltr %ax
    mov GDT + TSS_SEL + 4, %eax
    VALUE
    mov $TSS_SEL, %ax           /* busy now */
    ltr %ax
    END
    CASE 104
    mov $LDT_SEL, %ax
    lldt %ax
    movl $0x0000ffff, LDT + 8
    movl $0x00cf9300, LDT + 12
    mov $0x0c, %ax
    mov %ax, %fs
    mov %fs:0, %eax
    mov $0x1c, %ax              /* beyond the limit */
    mov %ax, %fs
    END
    CASE 105
    mov $CODE0, %ax
    lldt %ax
    END
    CASE 106
    xor %eax, %eax
    lldt %ax
    mov $0x0c, %ax
    mov %ax, %fs
    END

    /* selector loads, ring 0 */
    .macro LOADCASE n, seg, sel
    CASE \n
    mov $\sel, %ax
    mov %ax, %\seg
    mov %\seg, %ax
    movzwl %ax, %eax
    VALUE
    END
    .endm
    LOADCASE 110, ds, NP_DATA
    LOADCASE 111, ds, XONLY
    LOADCASE 112, ds, CONFORM
    LOADCASE 113, ds, DATA0 + 3
    LOADCASE 114, ds, CODE0
    LOADCASE 115, ds, TSS_SEL
    LOADCASE 116, ds, 0xf000
    LOADCASE 117, ds, 0
    LOADCASE 118, ds, 3
    LOADCASE 119, ss, 0
    LOADCASE 120, ss, DATA0 + 1
    LOADCASE 121, ss, DATA3
    LOADCASE 122, ss, RODATA
    LOADCASE 123, ss, NP_DATA
    LOADCASE 124, ss, CODE0
    LOADCASE 125, es, DATA3
    LOADCASE 126, gs, CODE3
#ifdef STRICT
    CASE 127
    xor %eax, %eax
    mov %ax, %fs
    mov %fs:0, %eax
    END
#endif
#ifdef STRICT
    CASE 128
    mov $RODATA, %ax
    mov %ax, %fs
    mov %fs:0, %eax
    mov %eax, %fs:0
    END
#endif
    CASE 129                    /* accessed bit */
    mov GDT + RODATA + 4, %eax
    VALUE
    END
#ifdef STRICT
    CASE 130                    /* expand-down: 7ff is out, 800 is in */
    mov $DOWN, %ax
    mov %ax, %fs
    mov %fs:0x800, %eax
    movb %fs:0x7ff, %al
    END
#endif
#ifdef STRICT
    CASE 131
    mov $SMALL, %ax
    mov %ax, %fs
    mov %fs:0xffc, %eax
    mov %fs:0xffd, %eax
    END
#endif
#ifdef STRICT
    CASE 132
    mov $SMALL, %ax
    mov %ax, %ss
    mov $0xffe, %esp
    pop %eax
    END
#endif
#ifdef STRICT
    CASE 133                    /* write to execute-only: by CS */
    mov %eax, %cs:0
    END
#endif
    CASE 134
    .byte 0x8e, 0xc8            /* mov %ax, %cs */
    END
#ifdef STRICT
    CASE 135
    mov %cs:start32, %eax
    lock
    movl %eax, %eax
    END
#endif
    /* LAR LSL VERR VERW over all selectors */
    .macro SCAN n, op
    CASE \n
    xor %esi, %esi
1:  mov %esi, %ecx
    mov $0x5a5a5a5a, %eax
    \op
    jz 2f
    mov $0x11111111, %eax
2:  VALUE
    add $8, %esi
    cmp $0xe8, %esi
    jb 1b
    END
    .endm
    SCAN 140, "lar %ecx, %eax"
    SCAN 141, "lsl %ecx, %eax"
    SCAN 142, "verr %cx"
    SCAN 143, "verw %cx"
    .macro SCAN3 n, op
    CASE \n
    RING3
    mov $3, %esi
1:  mov %esi, %ecx
    mov $0x5a5a5a5a, %eax
    \op
    jz 2f
    mov $0x11111111, %eax
2:  VALUE
    add $8, %esi
    cmp $0xe8, %esi
    jb 1b
    int $0x20
    END
    .endm
    SCAN3 144, "lar %ecx, %eax"
    SCAN3 145, "lsl %ecx, %eax"
    SCAN3 146, "verr %cx"
    SCAN3 147, "verw %cx"
    CASE 148
    mov $0x10, %eax
    mov $0x13, %ecx
    arpl %cx, %ax
    lahf
    VALUE
    arpl %cx, %ax
    lahf
    and $0x40ff, %eax
    VALUE
    END

    /* interrupts */
    .macro INTCASE n, vec
    CASE \n
    int $\vec
    END
    CASE (\n + 1)
    RING3
    int $\vec
    END
    .endm
    INTCASE 150, 0x20
    INTCASE 152, 0x21
    INTCASE 154, 0x22
    INTCASE 156, 0x23
    INTCASE 158, 0x25
    INTCASE 160, 0x26
    INTCASE 162, 0x27
    INTCASE 164, 0x28
    INTCASE 166, 0x29
    INTCASE 168, 0x2a
    INTCASE 170, 0xfe
    INTCASE 172, 0x03
    INTCASE 174, 0x0d
    CASE 176
    int3
    END
    CASE 177
    RING3
    int3
    END
#ifdef STRICT
    CASE 178
    .byte 0xf1
    END
#endif
#ifdef STRICT
    CASE 179
    RING3
    .byte 0xf1
    END
#endif
    CASE 180                    /* TF */
    pushfl
    orl $0x100, (%esp)
    popfl
    nop
    nop
    END
    mov %dr6, %eax
    VALUE
    mov $0xffff0ff0, %eax
    mov %eax, %dr6
    CASE 181                    /* TF and MOV SS: #DB comes one instruction later */
    mov $DATA0, %cx
    pushfl
    orl $0x100, (%esp)
    popfl
    mov %cx, %ss
    nop
    nop
    END
    CASE 182
    RING3
    pushfl
    orl $0x100, (%esp)
    popfl
    nop
    nop
    END

    /* privilege */
    .macro USER n, text
    CASE \n
    RING3 0x2
    \text
    mov $0x77777777, %eax
    VALUE
    int3
    END
    .endm
    USER 190, "cli"
    USER 191, "sti"
    USER 192, "hlt"
    USER 193, "mov %cr0, %eax"
    USER 194, "mov %eax, %cr3"
    USER 195, "clts"
    USER 196, "lgdt GDTR"
    USER 197, "lldt %ax"
    USER 198, "ltr %ax"
    USER 199, "invlpg 0"
    USER 200, "wbinvd"
    USER 201, "rdmsr"
    USER 202, "wrmsr"
    USER 203, "lmsw %ax"
    USER 204, "mov %dr0, %eax"
    USER 205, "sidt GDTR"
    USER 206, "smsw %eax"
    CASE 207
    RING3 0x2
    in $0x80, %al
    END
    CASE 208
    RING3 0x2
    in $0xe9, %al
    int3
    END
    CASE 209                    /* POPF at CPL 3, IOPL 0: IF and IOPL stay */
    RING3 0x202
    pushl $0x3002
    popfl
    pushfl
    pop %eax
    and $~0x8d5, %eax
    int3
    END
    CASE 210
    RING3 0x3202
    pushl $0x0002
    popfl
    int3
    END
    CASE 211
    RING3 0x3002
    sti
    cli
    in $0xe9, %al
    sti
    int3
    END
    USER 212, "mov $DATA0, %ax; mov %ax, %ds"
    USER 213, "mov $DATA3, %ax; mov %ax, %ds"
    USER 214, "mov $DATA0, %ax; mov %ax, %ss"
#ifdef STRICT
    USER 215, "mov %eax, %cr1"
#endif
    CASE 216
    .byte 0x0f, 0x22, 0xc8      /* mov %eax, %cr1 */
    END

    /* far transfers */
    .macro FAR n, sel, off=0
    CASE \n
    lcall $\sel, $\off
    END
    CASE (\n + 1)
    ljmp $\sel, $\off
    END
    .endm
    FAR 220, 0
    FAR 222, DATA0
    FAR 224, NP_CODE
    FAR 226, 0xfff8
    FAR 228, CODE3, phandler
    FAR 230, NP_GATE
    FAR 232, CODE0 + 3, phandler
    FAR 234, CONFORM, far_target
    FAR 236, GATE
    FAR 238, LDT_SEL
    FAR 240, GATE16
    CASE 242                    /* call gate from CPL 3: parameters and stack switch, RETF back */
    RING3
    pushl $0x11112222
    pushl $0x33334444
    lcall $GATE, $0
    mov %esp, %eax
    int3
    END
    mov STACK3 - 16, %eax
    CASE 243
    RING3
    ljmp $GATE, $0
    END
    CASE 244
    RING3
    lcall $CONFORM, $far_target
    END
    CASE 245
    RING3
    lcall $CODE0, $far_target
    END
    CASE 246
    RING3
    pushl $0xabcd
    lcall $GATE16, $0
    int3
    END

    /* RETF and IRET */
    .macro RETCASE n, cs, eip=phandler
    CASE \n
    pushl $\cs
    pushl $\eip
    lret
    END
    CASE (\n + 1)
    pushl $2
    pushl $\cs
    pushl $\eip
    iretl
    END
    .endm
    RETCASE 250, 0
    RETCASE 252, DATA0
    RETCASE 254, NP_CODE
    RETCASE 256, CODE0 + 1
    RETCASE 258, 0xfff8
    CASE 260
    pushl $DATA0                /* SS with a wrong DPL */
    pushl $STACK3
    pushl $2
    pushl $CODE3
    pushl $0
    iretl
    END
    CASE 261
    pushl $0
    pushl $STACK3
    pushl $2
    pushl $CODE3
    pushl $0
    iretl
    END
    CASE 262                    /* DS is dropped on the way out, ES is kept */
    mov $DATA0, %ax
    mov %ax, %ds
    mov $DATA3, %ax
    mov %ax, %es
    pushl $DATA3
    pushl $STACK3
    pushl $2
    pushl $CODE3
    pushl $8f
    iretl
8:  mov %ds, %ax
    mov %es, %bx
    shl $16, %eax
    mov %bx, %ax
    VALUE
#ifdef STRICT
    mov %ds:0, %al
#endif
    int3
    END
    CASE 263                    /* NT without a valid link */
    movw $0, TSS
    pushl $0x4002
    popfl
    iretl
    END
    CASE 264
    RING3
    pushl $CODE0
    pushl $phandler
    lret
    END

    /* task switches */
    .macro MAKE_B eip, eflags=2, cs=CODE0, ss=DATA0, ds=DATA0
    mov $TSS_B, %edi
    mov $26, %ecx
    xor %eax, %eax
    rep stosl
    movl $\eip, TSS_B + 0x20
    movl $\eflags, TSS_B + 0x24
    movl $STACK3 - 64, TSS_B + 0x38
    movl $0x12345678, TSS_B + 0x28
    movl $DATA0, TSS_B + 0x48
    movl $\cs, TSS_B + 0x4c
    movl $\ss, TSS_B + 0x50
    movl $\ds, TSS_B + 0x54
    movb $0x89, GDT + TSSB_SEL + 5
    movl $STACK0, TSS_B + 4
    movl $DATA0, TSS_B + 8
    movb $0x8b, GDT + TSS_SEL + 5
    .endm
    CASE 270                    /* CALL and IRET back */
    MAKE_B task_b
    lcall $TSSB_SEL, $0
    pushfl
    pop %eax
    and $~0x8d5, %eax
    VALUE
    mov %cr0, %eax
    VALUE
    str %ax
    movzwl %ax, %eax
    VALUE
    mov GDT + TSSB_SEL + 4, %eax
    VALUE
    END
    CASE 271                    /* JMP and JMP back */
    MAKE_B task_jump
    ljmp $TSSB_SEL, $0
    mov GDT + TSSB_SEL + 4, %eax
    VALUE
    mov GDT + TSS_SEL + 4, %eax
    VALUE
    END
    CASE 272                    /* through a task gate, by INT */
    MAKE_B task_b
    int $0x24
    mov TSS_B, %eax
    VALUE
    END
    CASE 273
    MAKE_B task_b
    lcall $TASKGATE, $0
    END
    CASE 274                    /* busy */
    lcall $TSS_SEL, $0
    END
    CASE 275                    /* too small */
    movw $0x66, GDT + TSSB_SEL
    lcall $TSSB_SEL, $0
    END
    movw $0x67, GDT + TSSB_SEL
    CASE 277
    MAKE_B task_b, 2, CODE0, DATA0, NP_DATA
    ljmp $TSSB_SEL, $0
9:  str %ax
    movzwl %ax, %eax
    VALUE
    call to_tss_a
    END
    CASE 278                    /* #GP through a task gate: error code on the new stack */
    MAKE_B task_error
    movl IDT + 8*13, %esi
    movl IDT + 8*13 + 4, %edi
    movl $TSSB_SEL << 16, IDT + 8*13
    movl $0x8500, IDT + 8*13 + 4
    mov $0xfff8, %ax
    mov %ax, %fs
    nop
    mov %esi, IDT + 8*13
    mov %edi, IDT + 8*13 + 4
    END
    clts

    /* nested faults */
    CASE 280                    /* #GP gate not present: #NP while delivering #GP: #DF */
    andb $0x7f, IDT + 8*13 + 5
    mov $0xfff8, %ax
    mov %ax, %fs
    END
    orb $0x80, IDT + 8*13 + 5
    CASE 281                    /* benign first: #UD gate not present: #NP */
    andb $0x7f, IDT + 8*6 + 5
    ud2
    END
    orb $0x80, IDT + 8*6 + 5

    /* paging: 4 MiB pages, one table with special pages at 0x400000 */
    CASE 290
    mov $PML4, %edi
    mov $0x2000, %ecx
    xor %eax, %eax
    rep stosl
    movl $0x87, PML4
    movl $PML4 + 0x1000 + 7, PML4 + 4
    movl $0x6000 + 7, PML4 + 0x1000
    movl $0x6000 + 5, PML4 + 0x1004
    movl $0x6000 + 3, PML4 + 0x1008
    movl $0x6000 + 6, PML4 + 0x100c
    mov $PML4, %eax
    mov %eax, %cr3
    mov %cr4, %eax
    or $0x10, %eax
    mov %eax, %cr4
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    mov 0x400000, %eax
    mov PML4 + 0x1000, %eax
    VALUE
    mov %eax, 0x400000
    mov PML4 + 0x1000, %eax
    VALUE
    END
    .macro PFCASE n, text
    CASE \n
    \text
    mov $0x66666666, %eax
    VALUE
    END
    mov %cr2, %eax
    VALUE
    .endm
    PFCASE 291, "mov 0x403000, %eax"
    PFCASE 292, "mov %eax, 0x403000"
    PFCASE 293, "mov %eax, 0x401000"
    PFCASE 294, "RING3; mov 0x402000, %eax"
    PFCASE 295, "RING3; mov %eax, 0x401000"
    PFCASE 296, "RING3; mov %eax, 0x402ffe"
    PFCASE 297, "mov 0x800000, %eax"
    PFCASE 298, "mov $0x403000, %eax; jmp *%eax"
    mov %cr0, %eax
    or $0x10000, %eax
    mov %eax, %cr0
    PFCASE 299, "mov %eax, 0x401000"
    PFCASE 300, "mov %eax, 0x400ffe"
#ifdef STRICT
    CASE 302                    /* PG off and CR0 rules */
    mov %cr0, %eax
    and $~1, %eax
    mov %eax, %cr0
    END
#endif
    mov %cr0, %eax
    and $0x7ffeffff, %eax
    mov %eax, %cr0
#ifdef STRICT
    CASE 303
    mov $0x100000, %eax
    mov %eax, %cr4              /* SMEP may not be there; just look at a surely reserved bit */
    mov $0x80000000, %eax
    mov %eax, %cr4
    END
#endif
    xor %eax, %eax
    mov %eax, %cr4

    /* SYSENTER and SYSEXIT */
    CASE 310
    sysenter
    END
    mov $0x174, %ecx
    xor %edx, %edx
    mov $CODE0, %eax
    wrmsr
    mov $0x175, %ecx
    mov $STACK0 - 0x100, %eax
    wrmsr
    mov $0x176, %ecx
    mov $sysenter_target, %eax
    wrmsr
    CASE 311
    RING3
    sysenter
    END
    CASE 312
    movb $0xfb, GDT + 0x1d
    mov $STACK3, %ecx
    mov $sysexit_target, %edx
    sysexit
    END

    /* virtual-8086 mode: code at 0x500 */
    .macro VM86 n, iopl, code
    CASE \n
    mov $0x500, %edi
    mov $7f, %esi
    mov $(6f - 7f), %ecx
    rep movsb
    jmp 5f
    .code16
7:  \code
    ud2
6:
    .code32
5:  pushl $0x111               /* GS FS DS ES SS ESP EFLAGS CS EIP */
    pushl $0x222
    pushl $0x333
    pushl $0x444
    pushl $0
    pushl $0x6f00
    pushl $0x20002 | \iopl << 12
    pushl $0x50
    pushl $0
    iretl
    END
    .endm
    VM86 320, 3, "mov %ds, %ax; mov %cs, %bx; cli; sti; pushf; popf"
    VM86 321, 0, "cli"
    VM86 322, 0, "sti"
    VM86 323, 0, "pushf"
    VM86 324, 0, "popf"
    VM86 325, 0, "int $0x20"
    VM86 326, 3, "int $0x20"
    VM86 327, 3, "int3"
    VM86 328, 0, "int3"
    VM86 329, 0, "hlt"
    VM86 330, 0, "in $0xe9, %al"
    VM86 331, 0, "in $0x80, %al"
    VM86 332, 3, "pushl $0x7202; popfl; pushfl; popl %eax"
    VM86 333, 0, "iret"
    VM86 334, 3, "pushw $0x202; pushw $0x50; pushw $0xe; iret; nop; nop; nop; nop; nop; nop"
    VM86 335, 3, "mov $0xffff, %bx; mov (%bx), %ax"
    VM86 336, 3, "sldt %ax"
    VM86 337, 3, "int $0x28"
    VM86 338, 3, "mov %cr0, %eax"
    VM86 339, 3, "lcall $0x50, $0x0a; nop; nop; nop; nop; nop; nop; nop"
    mov %cr4, %eax
    or $1, %eax
    mov %eax, %cr4              /* VME; the redirection bitmap is clear: INT n goes to the IVT */
    movw $0, 4*0x40
    movw $0x60, 4*0x40+2
    movb $0xcf, 0x600           /* iret */
    VM86 340, 0, "int $0x40; pushf; pop %ax; mov %ax, 0x3000"
    VM86 341, 3, "int $0x40"
    VM86 342, 0, "sti; pushf; pop %ax; mov %ax, 0x3000; cli"
    VM86 343, 0, "pushw $0x202; popf; pushf; pop %ax; push %ax"
    VM86 344, 0, "pushw $0x102; popf"
    VM86 345, 0, "pushl $0x202; popfl"
    movb $0xff, TSS + 0x68 + 8  /* INT 40-47 through the IDT */
    VM86 346, 0, "int $0x40"
    VM86 347, 3, "int $0x40"
    movb $0, TSS + 0x68 + 8
    mov %cr4, %eax
    xor $3, %eax
    mov %eax, %cr4              /* PVI instead */
    CASE 350
    RING3 0x2
    sti
    pushfl
    pop %eax
    cli
    int3
    END
    CASE 351
    RING3 0x100002              /* VIP */
    sti
    END
    pushl $2                    /* only IRET clears it */
    pushl $CODE0
    pushl $1f
    iretl
1:
    xor %eax, %eax
    mov %eax, %cr4

/* ---- on to long mode ---- */
    mov $PML4, %edi
    mov $0x3000, %ecx
    xor %eax, %eax
    rep stosl
    movl $PML4 + 0x1007, PML4
    movl $PML4 + 0x1007, PML4 + 8 * 256   /* the upper half too */
    movl $PML4 + 0x2007, PML4 + 0x1000
    movl $0x87, PML4 + 0x2000
    movl $PML4 + 0x3007, PML4 + 0x2008    /* 0x200000: special pages */
    movl $0x6007, PML4 + 0x3000
    movl $0x6003, PML4 + 0x3010
    movl $0x6005, PML4 + 0x3008
    movl $0x6007, PML4 + 0x3020
    movl $0x80000000, PML4 + 0x3024       /* NX */
    movl $0x6007, PML4 + 0x3028
    movl $0x00100000, PML4 + 0x302c       /* reserved bit 52 without NXE is ignored: bit 51 below is not */
    CASE 400                    /* PG with LME but without PAE */
    mov $0xc0000080, %ecx
    mov $0x901, %eax
    xor %edx, %edx
    wrmsr
    mov $PML4, %eax
    mov %eax, %cr3
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    END
    mov $0x20, %eax
    mov %eax, %cr4
    mov $0xc0000080, %ecx
    rdmsr
    VALUE
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    mov $0xc0000080, %ecx
    rdmsr
    VALUE
    /* 64-bit IDT: 32 gates, then 20-2a */
    mov $IDT, %edi
    mov $0x200, %ecx
    xor %eax, %eax
    rep stosl
    mov $IDT, %edi
    mov $lstub0 - BASE, %eax
    mov $32, %ecx
1:  mov %ax, (%edi)
    movw $CODE64, 2(%edi)
    movw $0x8e00, 4(%edi)
    movw $0xf, 6(%edi)
    add $16, %edi
    add $16, %eax
    loop 1b
    movl $0x89, %eax
    movb %al, GDT + TSS64 + 5
    movl $IDT, IDTR + 2
    movw $0x2bf, IDTR
    lidt IDTR
    mov $TSS, %edi
    mov $0x100, %ecx
    xor %eax, %eax
    rep stosl
    movl $STACK0, TSS + 4
    movl $0x7800, TSS + 36      /* IST1 */
    movl $0, TSS + 44
    movl $0x8000, TSS + 48      /* IST2: not canonical */
    movw $0x68, TSS + 102
    ljmp $CODE64, $start64

far_target:
    mov %esp, %eax
    VALUE
    mov %cs, %ax
    movzwl %ax, %eax
    VALUE
    mov 4(%esp), %eax
    VALUE
    ud2
gate_target:
    mov %esp, %eax
    VALUE
    mov (%esp), %eax
    VALUE
    mov 4(%esp), %eax
    VALUE
    mov 8(%esp), %eax
    VALUE
    mov 12(%esp), %eax
    VALUE
    mov 16(%esp), %eax
    VALUE
    mov %ss, %eax
    VALUE
    mov %cs, %ax
    lret $8
sysenter_target:
    mov %esp, %eax
    VALUE
    mov %ss, %eax
    VALUE
    mov %cs, %eax
    VALUE
    ud2
sysexit_target:
    mov %ss, %eax
    VALUE
    ud2
phandler:                       /* reports the frame as an exception with vector FE */
    pushl $0
    pushl $0xfe
    jmp pcommon
phandler16:                     /* a 16-bit frame, or one of a 16-bit gate */
    mov %esp, %eax
    VALUE
    mov (%esp), %eax
    VALUE
    mov 4(%esp), %eax
    and $~0x8d5, %eax
    VALUE
    mov $DATA0, %ax
    mov %ax, %ss
    mov %ax, %ds
    mov $STACK0, %esp
    pushl $2
    popfl
    jmp *RESUME
task_b:
    pushfl
    pop %ecx
    mov %ecx, %eax
    and $~0x8d5, %eax
    VALUE
    str %ax
    movzwl %ax, %eax
    VALUE
    mov TSS_B, %eax
    VALUE
    mov %cr0, %eax
    VALUE
    mov %esp, %eax
    VALUE
    iretl
    ud2
task_jump:
    mov TSS + 0x20, %eax
    VALUE
    mov TSS + 0x38, %eax
    VALUE
    VALUE
    ljmp $TSS_SEL, $0
task_error:
    pop %eax
    VALUE
    mov TSS + 0x20, %eax
    VALUE
    addl $2, TSS + 0x20
    iretl
to_tss_a:
    movl $1f, TSS + 0x20
    movb $0x89, GDT + TSS_SEL + 5
    ljmp $TSS_SEL, $0
1:  ret

/* ---- long mode -------------------------------------------------------------------------------------------- */
    .code64
    .macro LCASE n
    movq $9f, RESUME
    movl $\n, %eax
    call lcase
    .endm
    .macro LVALUE
    call lvalue
    .endm
    .macro LEND
9:  call lreset
    .endm
    .macro LRING3 cs=CODE3_64, ss=DATA3_64, flags=0x3002
    pushq $\ss
    pushq $STACK3
    pushq $\flags
    pushq $\cs
    pushq $8f
    iretq
8:
    .endm

    .balign 16
lstub0:
    .set i, 0
    .rept 32
    .balign 16
    .if i == 8 || (i >= 10 && i <= 14) || i == 17
    nop
    nop
    .else
    pushq $0
    .endif
    pushq $i
    jmp lcommon
    .set i, i + 1
    .endr
    .balign 16
lcommon:                        /* vector, error, rip, cs, rflags, rsp, ss */
    mov %rsp, %rbp
    mov $'E', %al
    out %al, $0xe9
    mov (%rbp), %eax
    out %al, $0xe9
    mov 8(%rbp), %eax
    call ldword
    mov 16(%rbp), %eax
    call ldword
    mov 24(%rbp), %eax
    out %al, $0xe9
    mov %ah, %al
    out %al, $0xe9
    mov 32(%rbp), %eax
    and $~0x8d5, %eax
    call ldword
    mov 40(%rbp), %eax
    LVALUE
    mov 48(%rbp), %eax
    LVALUE
    mov %ss, %eax
    LVALUE
    mov %esp, %eax
    LVALUE
    xor %eax, %eax
    mov %ax, %ss
    mov $STACK0, %esp
    pushq $2
    popfq
    jmp *RESUME

lcase:
    push %rax
    mov $'C', %al
    out %al, $0xe9
    pop %rax
    out %al, $0xe9
    mov %ah, %al
    out %al, $0xe9
    ret
lvalue:
    push %rax
    mov $'V', %al
    out %al, $0xe9
    pop %rax
ldword:
    push %rax
    push %rcx
    mov $4, %ecx
1:  out %al, $0xe9
    shr $8, %eax
    loop 1b
    pop %rcx
    pop %rax
    ret
lreset:
    pop %rbx
    xor %eax, %eax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $STACK0, %esp
    pushq $2
    popfq
    jmp *%rbx

    .macro LGATE vec, type, target, sel=CODE64, ist=0
    movl $(\sel << 16) + (\target - BASE), IDT + 16 * \vec
    movl $(0xf0000 + (\type << 8) + \ist), IDT + 16 * \vec + 4
    .endm

start64:
    xor %eax, %eax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %fs
    mov %ax, %gs
    mov %ax, %ss
    mov $STACK0, %esp
    mov $TSS64, %ax
    ltr %ax
    LGATE 0x20, 0xee, lhandler
    LGATE 0x21, 0x6e, lhandler
    LGATE 0x22, 0x8e, lhandler
    LGATE 0x23, 0xef, lhandler
    LGATE 0x24, 0xee, lhandler, CODE64, 1
    LGATE 0x25, 0xee, lhandler, 0
    LGATE 0x26, 0xe6, lhandler
    LGATE 0x27, 0xee, lhandler, CODE64, 2
    LGATE 0x28, 0xee, lhandler, CODE0
    LGATE 0x29, 0xee, lhandler, CODE3_64
    LGATE 0x2a, 0xee, lhandler
    movl $0x8000, IDT + 16 * 0x2a + 8

    .macro LINT n, vec
    LCASE \n
    int $\vec
    LEND
    LCASE (\n + 1)
    LRING3
    int $\vec
    LEND
    LCASE (\n + 2)
    LRING3 CODE3_32, DATA3_64
    .code32
    int $\vec
    .code64
    LEND
    .endm
    LINT 410, 0x20
    LINT 413, 0x21
    LINT 416, 0x22
    LINT 419, 0x23
    LINT 422, 0x24
    LINT 425, 0x25
    LINT 428, 0x26
    LINT 431, 0x27
    LINT 434, 0x28
    LINT 437, 0x29
    LINT 440, 0x2a
    LINT 443, 0x2b
    LINT 446, 0x7c
    LINT 449, 3
    LCASE 452
    ud2
    LEND
    LCASE 453
    push %rax
    push %rax
    push %rax
    ud2
    LEND

    .macro LOP n, text
    LCASE \n
    \text
    mov $0x66666666, %eax
    LVALUE
    LEND
    mov %cr2, %rax
    LVALUE
    .endm
    .macro LUSER n, text
    LCASE \n
    LRING3 CODE3_64, DATA3_64, 2
    \text
    mov $0x66666666, %eax
    int3
    LEND
    .endm
    LOP 460, "movabs $0x800000000000, %rbx; mov (%rbx), %eax"
    LUSER 461, "movabs $0x800000000000, %rsp; push %rax"
    LOP 462, "movabs $0x800000000000, %rbp; mov (%rbp), %eax"
    LOP 463, "movabs $0x7ffffffffffc, %rbx; mov (%rbx), %rax"
    LOP 464, "movabs $0x800000000000, %rbx; jmp *%rbx"
    LOP 465, "mov 0x201000, %eax; mov %eax, 0x201000"
    LOP 466, "mov 0x400000, %eax"
    LOP 467, "mov $0x204000, %ebx; jmp *%rbx"
    LOP 468, "movabs $0xffff800000204000, %rbx; jmp *%rbx"
    LOP 469, "mov 0x205000, %eax"
    LUSER 470, "mov 0x202000, %eax"
    LUSER 471, "mov %eax, 0x201000"
    LUSER 472, "cli"
    LUSER 473, "hlt"
    LUSER 474, "swapgs"
    LUSER 475, "mov %cr8, %rax"
    LUSER 476, "in $0x80, %al"
    LUSER 477, "mov $0x10, %eax; mov %ax, %ss"
    LUSER 478, "xor %eax, %eax; mov %ax, %ss"
    LUSER 479, "mov $0xcb, %eax; mov %ax, %ss; mov %ax, %ds"
    LOP 480, "mov $3, %eax; mov %ax, %ss"
    LOP 481, "mov $DATA0, %eax; mov %ax, %ss; mov %ss, %eax; LVALUE"
    LOP 482, "mov $0x30, %eax; mov %ax, %ds"
    LOP 483, "mov $TSS64, %eax; ltr %ax"
    LOP 484, "mov $LDT_SEL, %eax; lldt %ax"
    LOP 485, "mov $0x10, %eax; mov %rax, %cr8"
    LOP 486, "mov $5, %eax; mov %rax, %cr8; mov %cr8, %rax; LVALUE; xor %eax, %eax; mov %rax, %cr8"
#ifdef STRICT
    LOP 487, "mov %cr4, %rax; and $~0x20, %rax; mov %rax, %cr4"
#endif
#ifdef STRICT
    LOP 488, "mov %cr0, %rax; btr $31, %rax; mov %rax, %cr0"
#endif
#ifdef STRICT
    LOP 489, "mov %cr0, %rax; bts $32, %rax; mov %rax, %cr0"
#endif
#ifdef STRICT
    LOP 490, "mov $0xc0000080, %ecx; rdmsr; and $~0x100, %eax; wrmsr"
#endif
#ifdef STRICT
    LOP 491, "mov $0xc0000080, %ecx; rdmsr; or $0x10, %eax; wrmsr"
#endif
#ifdef STRICT
    LOP 492, "mov $0xc0000100, %ecx; mov $0x8000, %edx; xor %eax, %eax; wrmsr"
#endif
#ifdef STRICT
    LOP 493, "mov $0x277, %ecx; mov $2, %eax; xor %edx, %edx; wrmsr"
#endif
    LOP 494, "mov $0xc0000102, %ecx; mov $0x1234, %eax; mov $0xffff8000, %edx; wrmsr; swapgs; mov $0xc0000101, %ecx; rdmsr; LVALUE; swapgs"
#ifdef STRICT
    LOP 495, "movl $0, GDTR + 2; movl $0x8000, GDTR + 6; lgdt GDTR"
#endif
    LOP 496, "lcall *far_null"
    LOP 497, "ljmp *far_data"
    LOP 498, "lcall *far_np"
    LOP 499, "lcall *far_compat"
    LOP 500, "lcall *far_gate"
    LUSER 501, "lcall *far_gate"
    LOP 502, "mov $0x0f, %eax; mov %rax, %dr6; mov %dr6, %rax; LVALUE"
    LOP 503, "mov $1, %eax; shl $32, %rax; mov %rax, %dr7"
    LOP 504, ".byte 0x27"
    LOP 505, ".byte 0x9a"
    LOP 506, ".byte 0xf0, 0x90"
    LOP 507, "mov $0xffffffff, %eax; mov %rax, %dr7; mov %dr7, %rax; LVALUE"

    .macro LIRET n, cs, rip=lhandler, ss=0, flags=2, rsp=STACK0
    LCASE \n
    movabs $\rip, %rax
    movabs $\rsp, %rcx
    pushq $\ss
    push %rcx
    pushq $\flags
    pushq $\cs
    push %rax
    iretq
    LEND
    .endm
    LIRET 520, 0
    LIRET 521, DATA0
    LIRET 522, NP_CODE
    LIRET 523, CODE64, 0x800000000000
    LIRET 524, CODE3_64, lhandler, 0
    LIRET 525, CODE3_64, lhandler, 3
    LIRET 526, CODE3_64, lhandler, DATA0
    LIRET 527, CODE64, lhandler, NP_DATA
    LIRET 528, CODE64, lhandler, DATA0, 0x3f7fd7
    LIRET 529, CODE64, lhandler, 0, 0x4002
    LIRET 530, CODE3_64, lring3, DATA3_64, 0x203002, 0x800000000000
    LIRET 531, CODE3_32, lring3_32, DATA3_64, 2, 0x12345678
    LIRET 532, CODE3_32, 0x100000000, DATA3_64
    LCASE 533                   /* NT */
    pushq $0x4002
    popfq
    pushq $0
    pushq $STACK0
    pushq $2
    pushq $CODE64
    pushq $lhandler
    iretq
    LEND
    LCASE 534                   /* to compatibility mode at CPL 0 and back */
    pushq $DATA0
    pushq $STACK0
    pushq $2
    pushq $CODE0
    pushq $1f
    iretq
    .code32
1:  mov %cs, %eax
    VALUE
    mov %esp, %eax
    VALUE
    push %eax
    mov %esp, %eax
    VALUE
    pushl $2
    pushl $CODE64
    pushl $2f
    iretl
    .code64
2:  mov %esp, %eax
    LVALUE
    LEND
    LCASE 535                   /* RETFQ, 32-bit RETF */
    pushq $CODE64
    pushq $1f
    lretq
1:  mov %esp, %eax
    LVALUE
    sub $8, %rsp
    movl $CODE64, 4(%rsp)
    movl $2f, (%rsp)
    lretl
2:  mov %esp, %eax
    LVALUE
    LEND

    /* SYSCALL and SYSRET */
    LCASE 540
    mov $0xc0000080, %ecx
    rdmsr
    and $~1, %eax
    wrmsr
    syscall
    LEND
    LCASE 541
    sysretl
    LEND
    mov $0xc0000080, %ecx
    rdmsr
    or $1, %eax
    wrmsr
    mov $0xc0000081, %ecx
    xor %eax, %eax
    mov $(CODE3_32 << 16) | CODE64, %edx
    wrmsr
    mov $0xc0000082, %ecx
    mov $syscall_target, %eax
    xor %edx, %edx
    wrmsr
    mov $0xc0000084, %ecx
    mov $0x700, %eax
    wrmsr
    LCASE 542
    LRING3 CODE3_64, DATA3_64, 0x3602
    syscall
    LEND
    LCASE 543
    LRING3 CODE3_64, DATA3_64, 0x3202
    sysretq
    LEND
    LCASE 544
    mov $1f, %ecx
    mov $0x3f7fd7, %r11d
    and $~0x100, %r11d
    sysretq
1:  mov %ss, %edx
    int3
    LEND
    LCASE 545
    mov $1f, %ecx
    mov $2, %r11d
    sysretl
    .code32
1:  int3
    .code64
    LEND
    LCASE 546
    movabs $0x800000000000, %rcx
    mov $2, %r11d
    sysretq
    LEND
    LCASE 547                   /* SYSENTER from 64-bit mode goes to 64-bit code */
    LRING3
    mov $0x176, %ecx
    sysenter
    LEND
    mov $0x174, %ecx
    mov $CODE64, %eax
    xor %edx, %edx
    wrmsr
    mov $0x176, %ecx
    mov $syscall_target, %eax
    wrmsr
    LCASE 548
    LRING3
    sysenter
    LEND

    /* nested */
    LCASE 550
    andb $0x7f, IDT + 16*13 + 5
    movabs $0x800000000000, %rbx
    mov (%rbx), %eax
    LEND
    orb $0x80, IDT + 16*13 + 5
    LCASE 551                   /* #PF handler stack not canonical: #SS while delivering #PF: #DF */
    movb $2, IDT + 16*14 + 4
    mov 0x400000, %eax
    LEND
    movb $0, IDT + 16*14 + 4
    LCASE 552                   /* TF over SYSCALL with FMASK */
    LRING3 CODE3_64, DATA3_64, 0x3102
    nop
    nop
    LEND
    mov %dr6, %rax
    LVALUE

    mov $'Z', %al
    out %al, $0xe9
    xor %eax, %eax
    out %al, $0xf4
1:  cli
    hlt
    jmp 1b

lhandler:
    pushq $0
    pushq $0xfe
    jmp lcommon
lring3:
    nop
    int $0x20
lring3_32:
    .code32
    nop
    int $0x20
    .code64
gate_target64:
    mov %esp, %eax
    LVALUE
    mov (%rsp), %eax
    LVALUE
    mov 8(%rsp), %eax
    LVALUE
    mov 16(%rsp), %eax
    LVALUE
    mov 24(%rsp), %eax
    LVALUE
    mov %ss, %eax
    LVALUE
    ud2
syscall_target:
    mov %rcx, %rbx
    mov $STACK0, %esp
    mov %ebx, %eax
    LVALUE
    mov %r11d, %eax
    and $~0x8d5, %eax
    LVALUE
    mov %cs, %eax
    LVALUE
    mov %ss, %eax
    LVALUE
    pushfq
    pop %rax
    and $~0x8d5, %eax
    LVALUE
    ud2

    .balign 8
far_null: .long 0; .word 0
far_data: .long 0; .word DATA0
far_np: .long 0; .word NP_CODE
far_compat: .long compat_target; .word CODE0
far_gate: .long 0; .word GATE64
    .code32
compat_target:
    mov %esp, %eax
    VALUE
    mov (%esp), %eax
    VALUE
    mov 4(%esp), %eax
    VALUE
    ud2

    .code16
    .org 0xfff0
reset:
    ljmp $0xf000, $0
    .org 0xffff
    .byte 0
