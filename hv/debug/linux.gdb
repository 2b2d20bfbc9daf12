# Symbols of a Linux kernel that chooses its own address (KASLR), for gdb.
#
#   gdb -ex 'target remote :1234' -x linux.gdb            symbols from the kernel's own memory
#   ... -x linux.gdb -ex 'hv-vmlinux vmlinux'             from a file with debug information
#
# Attached before the kernel is mapped, the guest runs until it is. Per-CPU symbols stay where they are:
# their addresses count from the start of a CPU's area. `hv-kernel` does it again, after a reset say.

define hv-kernel
  if $lstar == 0
    monitor symbols wait
    continue
  end
  monitor symbols
  symbol-file target:/vmlinux
end
document hv-kernel
Run the guest until its Linux kernel is mapped, and load the kernel's symbols.
end

define hv-vmlinux
  set $hv_slide = (unsigned long) &hv_kernel_slide
  symbol-file
  add-symbol-file $arg0 -o $hv_slide -s .data..percpu 0
end
document hv-vmlinux
hv-vmlinux FILE: after hv-kernel, take the kernel's symbols from FILE, moved to where it is.
end

hv-kernel
