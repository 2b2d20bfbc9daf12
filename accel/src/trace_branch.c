/*
 * trace_branch.c - the handlers of op_branch.c that record the branches which they take, and which is whose twin.
 */
#define TRACED
#include "op_branch.c"

#define TWIN(form) {h_##form, h_##form##_traced},
#define TWINS(name, condition) TWIN(name##_64) TWIN(name##_32)
static const struct { op_fn *plain, *recording; } twins[] = {CHAINING(TWIN) CONDITIONS(TWINS)};

op_fn *trace_recording(op_fn *fn) {
    for (unsigned i = 0; i < sizeof twins / sizeof *twins; i++)
        if (twins[i].plain == fn) return twins[i].recording;
    return fn;
}
