# For a debug server that was started with the layout `auto`: after a stop in another processor mode gdb reads
# the description of the registers anew, and disassembles 16-bit, 32-bit and 64-bit code as such.
#
#   gdb -ex 'target remote :1234' -x modes.gdb
#
# Without a program file, or with a 32-bit one: beside a 64-bit one gdb refuses the other layouts.

python
class HvModes:
    ARCHITECTURES = {0: "i8086", 1: "i8086", 2: "i8086", 3: "i386", 4: "i8086", 5: "i386", 6: "i386:x86-64"}

    def __init__(self):
        gdb.events.stop.connect(self.follow)

    def follow(self, event):
        try:
            wanted = self.ARCHITECTURES[int(gdb.parse_and_eval("(int) $mode"))]
            present = gdb.selected_frame().architecture().name()
        except (gdb.error, KeyError):
            return
        if wanted != present:
            gdb.execute("unset tdesc filename", to_string=True)

HvModes()
end
