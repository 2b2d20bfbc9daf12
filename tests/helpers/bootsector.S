/*
 * A boot sector: 16-bit real mode, loaded at 0x7C00, no firmware calls. It counts to 1000 in memory
 * at 0x600, prints a line with the count on COM1 and leaves through isa-debug-exit.
 */
    .code16
    .text
    .global _start
_start:
    cli
    cld
    xorw    %ax, %ax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %ss
    movw    $0x7C00, %sp
    ljmp    $0, $start
start:
    movw    $0, 0x600
count_up:
    incw    0x600
    cmpw    $1000, 0x600
    jne     count_up

    movw    $greeting, %si
    call    print
    movw    0x600, %ax
    call    print_decimal
    movw    $line_end, %si
    call    print

    movb    $0x2A, %al
    movw    $0xF4, %dx
    outb    %al, %dx
stop:
    hlt
    jmp     stop

/* The string at DS:SI. */
print:
    lodsb
    testb   %al, %al
    jz      1f
    call    put_char
    jmp     print
1:  ret

/* AX as an unsigned number. */
print_decimal:
    movw    $10, %bx
    xorw    %cx, %cx
1:  xorw    %dx, %dx
    divw    %bx
    pushw   %dx
    incw    %cx
    testw   %ax, %ax
    jnz     1b
2:  popw    %ax
    addb    $'0', %al
    call    put_char
    loop    2b
    ret

/* AL to COM1, when its transmitter is empty. */
put_char:
    movb    %al, %ah
    movw    $0x3FD, %dx
1:  inb     %dx, %al
    testb   $0x20, %al
    jz      1b
    movw    $0x3F8, %dx
    movb    %ah, %al
    outb    %al, %dx
    ret

greeting:
    .asciz  "boot sector counted to "
line_end:
    .asciz  "\r\n"

    .org    510
    .word   0xAA55

    .section .note.GNU-stack, "", @progbits
