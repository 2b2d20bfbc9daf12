/*
 * trace_fuse.c - the handlers of op_fuse.c that end in a branch, for those that record the branches which they take.
 */
#define TRACED
#include "op_fuse.c"
