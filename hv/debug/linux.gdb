# The guest runs until its Linux kernel is mapped where it will stay (KASLR), and gdb has the kernel's symbols.
#
#   gdb -ex 'target remote :1234' -x linux.gdb
#   gdb -ex 'target remote :1234' -x linux.gdb -ex 'hv-vmlinux vmlinux'
#
# The second form takes the symbols from a file with debug information. Per-CPU symbols stay where they are:
# their addresses count from the start of a CPU's area. `hv-kernel` does it again, after a reset say.

define hv-kernel
  if $lstar == 0
    monitor symbols wait
    continue
  end
  monitor symbols
end
document hv-kernel
Run the guest until its Linux kernel is mapped.
end

define hv-vmlinux
  set $hv_slide = (unsigned long) &hv_kernel_slide
  symbol-file
  nosharedlibrary
  set auto-solib-add off
  add-symbol-file $arg0 -o $hv_slide -s .data..percpu 0
end
document hv-vmlinux
hv-vmlinux FILE: after hv-kernel, take the kernel's symbols from FILE, moved to where it is.
end

hv-kernel
