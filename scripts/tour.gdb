# A tour of the demo guest: breakpoints, backtraces, a watchpoint, two processors, exact steps.
# gdb ends with a nonzero status at the first command that fails or the first check that does not hold.
set pagination off
set confirm off
set width 0

echo \n--- A breakpoint, set before the code is loaded and before paging is on.\n
hbreak kmain
continue
if $pc < (unsigned long) kmain || $pc > (unsigned long) kmain + 64
  echo not in kmain\n
  quit 1
end
info registers rip rsp cr0 cr3

echo \n--- Recursion, seen from the inside.\n
delete
break fib if n == 0
continue
backtrace
if n != 0
  quit 1
end

echo \n--- A page fault, and through it the code that was interrupted.\n
delete
tbreak page_fault
continue
backtrace
printf "the address that has no page yet: %#lx\n", address
if address < 0x8000000000
  quit 1
end

echo \n--- Who changes this variable?\n
set $before = shared_counter
watch shared_counter
continue
backtrace 3
if shared_counter != $before + 1
  quit 1
end

echo \n--- Both processors.\n
delete
info threads
thread apply all backtrace 3
if cpus_online < 1
  quit 1
end

echo \n--- Ten instructions, one at a time.\n
set $count = 0
while $count < 10
  stepi
  set $count = $count + 1
end
x/4i $pc

echo \n--- Changing the guest: a write that it will act on.\n
print shared_counter = 1000000
tbreak step_count
continue
finish
if shared_counter <= 1000000
  quit 1
end
print shared_counter

echo \n--- The end of the tour.\n
kill
