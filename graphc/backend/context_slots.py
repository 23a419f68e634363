"""The places of a program's context (floor 6): what compiled code and its callers agree on.

The context is an array of 8-byte slots. The first three are what a call is told: the site of the
first failed check (0: none), the parallel function or 0, and the number of threads.
Nothing but numbers is here: a cached program is called without the rest of the back end.
"""

SCRATCH_SLOT = 3  # scratch memory of kernels
BUFFERS_SLOT = 4  # the program's buffers, for bodies
ARENA_END_SLOT = 5  # the first byte behind the arena, from the caller
# Where the free part of the arena begins, or, where MORE_MEMORY is returned, how far the arena
# would have to reach.
FREE_SLOT = 6
WHOLE_PROFILE_SLOT = 7  # ticks of the whole call
FIRST_PROFILE_SLOT = 8  # ticks of launch k: this place + k

MORE_MEMORY = -1  # where the number of a site is expected
