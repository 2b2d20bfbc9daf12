/*
 * The kernels whose instructions are counted: uint64_t kernel(uint64_t iterations), at least one
 * iteration. The count per iteration stands above each; scripts/benchlib/kernels.py has it too.
 */
#include "bench.h"

    .macro KERNEL name
    .text
    .align 16
    .global \name
    .type \name, @function
\name:
    .endm

    .macro END name
    .size \name, . - \name
    .endm

/* Integer arithmetic between registers: 10. */
    KERNEL kernel_alu
    movl    $1, %eax
    movl    $2, %edx
    movl    $3, %ecx
    .align 16
1:  addq    %rdi, %rax
    xorq    %rax, %rdx
    leaq    7(%rcx,%rdx,2), %rcx
    shrq    $3, %rcx
    subq    %rcx, %rax
    rolq    $5, %rdx
    andl    $0x7FFFFFFF, %ecx
    orq     $1, %rdx
    decq    %rdi
    jnz     1b
    xorq    %rdx, %rax
    ret
    END kernel_alu

/* Loads, stores and a read-modify-write in 32 KiB: 10. */
    KERNEL kernel_ldst
    movl    $ldst_data, %esi
    xorl    %eax, %eax
    xorl    %ecx, %ecx
    .align 16
1:  movq    (%rsi,%rcx,8), %rdx
    addq    %rdi, %rdx
    movq    %rdx, 8(%rsi,%rcx,8)
    movl    64(%rsi,%rcx,8), %r8d
    addq    %r8, %rax
    addq    %rax, 24(%rsi,%rcx,8)
    addl    $9, %ecx
    andl    $0xFFF, %ecx
    decq    %rdi
    jnz     1b
    ret
    END kernel_ldst

/* Direct calls, three deep: 17. */
    KERNEL kernel_call
    xorl    %eax, %eax
    .align 16
1:  call    call_outer
    call    call_inner
    decq    %rdi
    jnz     1b
    ret
    END kernel_call
    KERNEL call_outer
    addq    $3, %rax
    call    call_middle
    ret
    END call_outer
    KERNEL call_middle
    xorq    %rdi, %rax
    call    call_inner
    call    call_inner
    ret
    END call_middle
    KERNEL call_inner
    incq    %rax
    ret
    END call_inner

/* A byte-code interpreter's dispatch, eight handlers in an order of 64 steps: 6. */
    .macro HANDLER number, work:vararg
    .align 16
handler_\number:
    \work
    incl    %ecx
    andl    $63, %ecx
    decq    %rdi
    jz      indirect_done
    jmp     *handlers(,%rcx,8)
    .endm

    KERNEL kernel_indirect
    xorl    %eax, %eax
    xorl    %ecx, %ecx
    HANDLER 0, addq $1, %rax
    HANDLER 1, xorq %rdi, %rax
    HANDLER 2, rolq $7, %rax
    HANDLER 3, subq $5, %rax
    HANDLER 4, leaq (%rax,%rax,2), %rax
    HANDLER 5, orq $9, %rax
    HANDLER 6, notq %rax
    HANDLER 7, addq %rcx, %rax
indirect_done:
    ret
    END kernel_indirect

    .section .rodata
    .align 64
handlers:
    .irpc number, 0316472513702645174650321267403560152734617325400537612424716053
    .quad   handler_\number
    .endr

/* SSE and SSE2 arithmetic, floating point converging to 2 and integers: 16. */
    KERNEL kernel_sse2
    movapd  double_half, %xmm4
    movapd  double_one, %xmm5
    movaps  float_half, %xmm6
    movaps  float_one, %xmm7
    movdqa  integers, %xmm8
    xorpd   %xmm0, %xmm0
    movapd  %xmm5, %xmm1
    xorps   %xmm2, %xmm2
    movaps  %xmm7, %xmm3
    pxor    %xmm9, %xmm9
    movdqa  %xmm8, %xmm10
    .align 16
1:  mulpd   %xmm4, %xmm0
    mulps   %xmm6, %xmm2
    addpd   %xmm5, %xmm0
    addps   %xmm7, %xmm2
    mulpd   %xmm4, %xmm1
    mulps   %xmm6, %xmm3
    addpd   %xmm5, %xmm1
    subps   %xmm7, %xmm3
    mulsd   %xmm4, %xmm0
    addsd   %xmm5, %xmm0
    paddd   %xmm8, %xmm9
    pmuludq %xmm8, %xmm10
    paddq   %xmm9, %xmm10
    pxor    %xmm8, %xmm10
    decq    %rdi
    jnz     1b
    pxor    %xmm9, %xmm10
    xorpd   %xmm1, %xmm0
    xorps   %xmm3, %xmm2
    pxor    %xmm2, %xmm0
    pxor    %xmm0, %xmm10
    movq    %xmm10, %rax
    ret
    END kernel_sse2

/* The same in 256 bits: 16. */
    KERNEL kernel_avx2
    vbroadcastsd double_half, %ymm4
    vbroadcastsd double_one, %ymm5
    vbroadcastss float_half, %ymm6
    vbroadcastss float_one, %ymm7
    vbroadcasti128 integers, %ymm8
    vxorpd  %ymm0, %ymm0, %ymm0
    vmovapd %ymm5, %ymm1
    vxorps  %ymm2, %ymm2, %ymm2
    vmovaps %ymm7, %ymm3
    vpxor   %ymm9, %ymm9, %ymm9
    vmovdqa %ymm8, %ymm10
    .align 16
1:  vmulpd  %ymm4, %ymm0, %ymm0
    vmulps  %ymm6, %ymm2, %ymm2
    vaddpd  %ymm5, %ymm0, %ymm0
    vaddps  %ymm7, %ymm2, %ymm2
    vmulpd  %ymm4, %ymm1, %ymm1
    vmulps  %ymm6, %ymm3, %ymm3
    vaddpd  %ymm5, %ymm1, %ymm1
    vsubps  %ymm7, %ymm3, %ymm3
    vpaddd  %ymm8, %ymm9, %ymm9
    vpmuludq %ymm8, %ymm10, %ymm10
    vpaddq  %ymm9, %ymm10, %ymm10
    vpsrlq  $1, %ymm10, %ymm11
    vpxor   %ymm8, %ymm11, %ymm10
    vpermq  $0x39, %ymm10, %ymm10
    decq    %rdi
    jnz     1b
    vxorpd  %ymm1, %ymm0, %ymm0
    vxorps  %ymm3, %ymm2, %ymm2
    vpxor   %ymm0, %ymm2, %ymm2
    vpxor   %ymm2, %ymm10, %ymm10
    vpxor   %ymm9, %ymm10, %ymm10
    vextracti128 $1, %ymm10, %xmm0
    vpaddq  %xmm0, %xmm10, %xmm10
    vmovq   %xmm10, %rax
    vzeroupper
    ret
    END kernel_avx2

/* x87 arithmetic, two values converging to 2, and a load and a store: 12. */
    KERNEL kernel_x87
    fldl    double_one
    fldl    double_half
    fldz
    fldz
    .align 16
1:  fmul    %st(2), %st
    fadd    %st(3), %st
    fxch    %st(1)
    fmul    %st(2), %st
    fadd    %st(3), %st
    fxch    %st(1)
    fldl    double_half
    fadd    %st(1), %st
    fmul    %st(3), %st
    fstpl   -8(%rsp)
    decq    %rdi
    jnz     1b
    fstpl   -16(%rsp)
    fstpl   -24(%rsp)
    fstp    %st
    fstp    %st
    movq    -8(%rsp), %rax
    xorq    -16(%rsp), %rax
    rolq    $11, %rax
    xorq    -24(%rsp), %rax
    ret
    END kernel_x87

/* Copy 1 MiB by bytes: 5 and a repeated one. */
    KERNEL kernel_movsb
    movq    %rdi, %rdx
1:  movl    $move_source, %esi
    movl    $move_target, %edi
    movl    $MOVE_BYTES, %ecx
    rep movsb
    decq    %rdx
    jnz     1b
    movq    move_target + MOVE_BYTES - 8, %rax
    ret
    END kernel_movsb

/* Change the constant in `mov eax, constant; ret` and call it: 7. */
    KERNEL kernel_patch
    movq    patch_code, %rsi
    movb    $0xB8, (%rsi)
    movb    $0xC3, 5(%rsi)
    xorl    %edx, %edx
    .align 16
1:  movl    %edi, 1(%rsi)
    call    *%rsi
    addq    %rax, %rdx
    decq    %rdi
    jnz     1b
    movq    %rdx, %rax
    ret
    END kernel_patch

    .section .rodata
    .align 16
double_half:
    .double 0.5, 0.5
double_one:
    .double 1, 1
float_half:
    .float  0.5, 0.5, 0.5, 0.5
float_one:
    .float  1, 1, 1, 1
integers:
    .long   0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F

    .section .note.GNU-stack, "", @progbits
