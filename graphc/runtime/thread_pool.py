"""The thread pool (runtime, floor 7): native code, shared by all sessions of the process.

`graphc_parallel(fn, args, n, chunk, threads)` calls fn(args, begin, end, worker) over chunks of
[0, n), of `chunk` indices at most (`shares`). The caller and the workers claim chunks from one
64-bit word, {generation, chunks not yet claimed}, and the caller waits for chunks, never for
workers: a worker that wakes late costs nothing.
Invariants: no thread exists before the first call that needs one; a job's fields are read only
after a successful claim, which proves that the job is still running; a second caller and a nested
call run serially.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator

from graphc.base.errors import CompileError
from graphc.runtime import processors
from graphc.runtime.cache import ObjectCache
from graphc.runtime.shares import SHARES_TEXT
from graphc.runtime.support_code import load_support_code, support_target

_log = logging.getLogger("graphc.runtime")

_SPINS = 50_000  # pauses before a worker sleeps: about a millisecond
_SPINS_PER_YIELD = 16_384
_PAUSE = {
    "x86-64": ("declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"),
    "aarch64-linux": (
        "declare void @llvm.aarch64.hint(i32)",
        "call void @llvm.aarch64.hint(i32 1)",
    ),
}
_FUTEX = {"x86-64": 202, "aarch64-linux": 98}
_EXTERNALS = ("pthread_create", "pthread_detach", "pthread_sigmask", "sched_yield", "syscall")

# Signals are for Python's own threads, except those that a faulty instruction raises in its thread:
# SIGILL 4, SIGTRAP 5, SIGBUS 7, SIGFPE 8, SIGSEGV 11, SIGSYS 31.
_BLOCKED = ~sum(1 << (signal - 1) for signal in (4, 5, 7, 8, 11, 31))

_TEXT = """
@word = internal global i64 0, align 64      ; generation << 32 | chunks not yet claimed
@fn = internal global ptr null, align 64     ; the job, written before the word is published
@args = internal global ptr null
@length = internal global i64 0              ; indices of a chunk
@longer = internal global i64 0              ; chunks, the first ones, that have one more
@total = internal global i64 0
@allowed = internal global i64 0             ; threads of this job, the caller included
@pending = internal global i64 0, align 64   ; chunks not yet finished
@busy = internal global i32 0, align 64      ; 1 while a call runs
@started = internal global i64 0             ; workers that exist
@limit = internal global i64 1               ; threads that may exist, the caller included
@wake = internal global i32 0, align 64      ; futex: changes with every job
@sleepers = internal global i32 0
@ending = internal global i32 0              ; 1 while workers are asked to end

declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(i64)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sched_yield()
declare i64 @syscall(i64, ...)
{pause_declaration}

define internal void @run_chunk(i64 %remaining, i64 %worker) nounwind {{
  %fn = load ptr, ptr @fn
  %args = load ptr, ptr @args
  %length = load i64, ptr @length
  %longer = load i64, ptr @longer
  %total = load i64, ptr @total
  %index = sub i64 %total, %remaining
  %next = add i64 %index, 1
  %begin = call i64 @graphc.share(i64 %index, i64 %length, i64 %longer)
  %end = call i64 @graphc.share(i64 %next, i64 %length, i64 %longer)
  call void %fn(ptr %args, i64 %begin, i64 %end, i64 %worker)
  %before = atomicrmw sub ptr @pending, i64 1 acq_rel
  ret void
}}

; Claim and run one chunk. False where there is none for this worker.
define internal i1 @claim(i64 %worker) nounwind {{
entry:
  br label %look
look:
  %word = load atomic i64, ptr @word acquire, align 8
  %remaining = and i64 %word, 4294967295
  %allowed = load atomic i64, ptr @allowed monotonic, align 8
  %some = icmp ne i64 %remaining, 0
  %mine = icmp ult i64 %worker, %allowed
  %both = and i1 %some, %mine
  br i1 %both, label %take, label %none
take:
  %less = sub i64 %word, 1
  %pair = cmpxchg ptr @word, i64 %word, i64 %less acq_rel monotonic, align 8
  %won = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %won, label %run, label %look
run:
  call void @run_chunk(i64 %remaining, i64 %worker)
  ret i1 true
none:
  ret i1 false
}}

define internal ptr @worker(ptr %id) nounwind {{
entry:
  %worker = ptrtoint ptr %id to i64
  br label %look
look:
  %spins = phi i64 [ 0, %entry ], [ 0, %look ], [ %more, %spin ], [ 0, %awake ]
  %ran = call i1 @claim(i64 %worker)
  br i1 %ran, label %look, label %rest
rest:
  %enough = load atomic i32, ptr @ending monotonic, align 4
  %leave = icmp ne i32 %enough, 0
  br i1 %leave, label %end, label %stay
stay:
  %more = add i64 %spins, 1
  %tired = icmp ugt i64 %more, {spins}
  br i1 %tired, label %doze, label %spin
spin:
  {pause}
  br label %look
doze:
  ; Announce, then look once more: the publisher writes the word, then reads @sleepers.
  %seen = load atomic i32, ptr @wake seq_cst, align 4
  %b0 = atomicrmw add ptr @sleepers, i32 1 seq_cst
  %word = load atomic i64, ptr @word seq_cst, align 8
  %remaining = and i64 %word, 4294967295
  %allowed = load atomic i64, ptr @allowed seq_cst, align 8
  %some = icmp ne i64 %remaining, 0
  %mine = icmp ult i64 %worker, %allowed
  %work = and i1 %some, %mine
  %over = load atomic i32, ptr @ending seq_cst, align 4
  %last = icmp ne i32 %over, 0
  %up = or i1 %work, %last
  br i1 %up, label %awake, label %sleep
sleep:
  %value = zext i32 %seen to i64
  %r = call i64 (i64, ...) @syscall(
    i64 {futex}, ptr @wake, i64 128, i64 %value, ptr null, ptr null, i64 0)
  br label %awake
awake:
  %b1 = atomicrmw sub ptr @sleepers, i32 1 seq_cst
  br label %look
end:
  %b2 = atomicrmw sub ptr @started, i64 1 acq_rel
  ret ptr null
}}

; Have `wanted` workers if the system gives them; returns how many there are. Called under @busy.
define internal i64 @start(i64 %wanted) nounwind {{
entry:
  %thread = alloca i64, align 8
  %blocked = alloca [16 x i64], align 8
  %old = alloca [16 x i64], align 8
  br label %look
look:
  %have = load atomic i64, ptr @started monotonic, align 8
  %enough = icmp sge i64 %have, %wanted
  br i1 %enough, label %done, label %create
create:
{store_mask}
  %m0 = call i32 @pthread_sigmask(i32 2, ptr %blocked, ptr %old)
  %id = add i64 %have, 1
  %arg = inttoptr i64 %id to ptr
  %rc = call i32 @pthread_create(ptr %thread, ptr null, ptr @worker, ptr %arg)
  %m1 = call i32 @pthread_sigmask(i32 2, ptr %old, ptr null)
  %failed = icmp ne i32 %rc, 0
  br i1 %failed, label %give_up, label %created
created:
  %handle = load i64, ptr %thread
  %d = call i32 @pthread_detach(i64 %handle)
  store atomic i64 %id, ptr @started monotonic, align 8
  br label %look
give_up:
  store atomic i64 %id, ptr @limit monotonic, align 8
  br label %done
done:
  ret i64 %have
}}

define void @graphc_parallel(ptr %fn, ptr %args, i64 %n, i64 %chunk, i64 %threads) nounwind {{
entry:
  %sane = icmp sgt i64 %chunk, 0
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %count, label %nothing
nothing:
  ret void
count:
  %step = select i1 %sane, i64 %chunk, i64 %n
  %n1 = sub i64 %n, 1
  %q = udiv i64 %n1, %step
  %chunks = add i64 %q, 1
  %limit = load atomic i64, ptr @limit monotonic, align 8
  %c0 = icmp slt i64 %threads, %limit
  %t0 = select i1 %c0, i64 %threads, i64 %limit
  %c1 = icmp slt i64 %t0, %chunks
  %t1 = select i1 %c1, i64 %t0, i64 %chunks
  %many = icmp sgt i64 %t1, 1
  %fits = icmp ult i64 %chunks, 2147483648  ; so do those that are added for even shares
  %try = and i1 %many, %fits
  br i1 %try, label %lock, label %serial
lock:
  %pair = cmpxchg ptr @busy, i32 0, i32 1 acquire monotonic, align 4
  %mine = extractvalue {{ i32, i1 }} %pair, 1
  br i1 %mine, label %locked, label %serial
serial:
  call void %fn(ptr %args, i64 0, i64 %n, i64 0)
  ret void
locked:
  %wanted = sub i64 %t1, 1
  %have = call i64 @start(i64 %wanted)
  %alone = icmp eq i64 %have, 0
  br i1 %alone, label %unlock_serial, label %publish
unlock_serial:
  store atomic i32 0, ptr @busy release, align 4
  br label %serial
publish:
  store ptr %fn, ptr @fn
  store ptr %args, ptr @args
  %total = call i64 @graphc.shares(i64 %n, i64 %step, i64 %t1)
  %length = udiv i64 %n, %total
  %longer = urem i64 %n, %total
  store i64 %length, ptr @length
  store i64 %longer, ptr @longer
  store i64 %total, ptr @total
  store atomic i64 %t1, ptr @allowed monotonic, align 8
  store atomic i64 %total, ptr @pending monotonic, align 8
  %last = load atomic i64, ptr @word monotonic, align 8
  %generation = lshr i64 %last, 32
  %next = add i64 %generation, 1
  %high = shl i64 %next, 32
  %word = or i64 %high, %total
  store atomic i64 %word, ptr @word seq_cst, align 8
  %w = atomicrmw add ptr @wake, i32 1 seq_cst
  %sleeping = load atomic i32, ptr @sleepers seq_cst, align 4
  %asleep = icmp ne i32 %sleeping, 0
  br i1 %asleep, label %wake_up, label %work
wake_up:
  %r = call i64 (i64, ...) @syscall(
    i64 {futex}, ptr @wake, i64 129, i64 2147483647, ptr null, ptr null, i64 0)
  br label %work
work:
  %ran = call i1 @claim(i64 0)
  br i1 %ran, label %work, label %wait
wait:
  %spins = phi i64 [ 0, %work ], [ %more, %spin ], [ 0, %yield ]
  %left = load atomic i64, ptr @pending acquire, align 8
  %over = icmp eq i64 %left, 0
  br i1 %over, label %finish, label %again
again:
  %more = add i64 %spins, 1
  %long = icmp ugt i64 %more, {spins_per_yield}
  br i1 %long, label %yield, label %spin
spin:
  {pause}
  br label %wait
yield:
  %y = call i32 @sched_yield()
  br label %wait
finish:
  store atomic i32 0, ptr @busy release, align 4
  ret void
}}

; End the workers; the next call that needs some starts others. 0 where a call runs: try again.
define i64 @graphc_pool_stop() nounwind {{
entry:
  %pair = cmpxchg ptr @busy, i32 0, i32 1 acquire monotonic, align 4
  %mine = extractvalue {{ i32, i1 }} %pair, 1
  br i1 %mine, label %tell, label %later
later:
  ret i64 0
tell:
  ; The flag, then the word that sleepers compare: whoever sees the new word sees the flag.
  store atomic i32 1, ptr @ending seq_cst, align 4
  %w = atomicrmw add ptr @wake, i32 1 seq_cst
  %r = call i64 (i64, ...) @syscall(
    i64 {futex}, ptr @wake, i64 129, i64 2147483647, ptr null, ptr null, i64 0)
  br label %wait
wait:
  %left = load atomic i64, ptr @started acquire, align 8
  %none = icmp eq i64 %left, 0
  br i1 %none, label %done, label %yield
yield:
  %y = call i32 @sched_yield()
  br label %wait
done:
  store atomic i32 0, ptr @ending seq_cst, align 4
  store atomic i32 0, ptr @busy release, align 4
  ret i64 1
}}

; After fork: the child has none of the workers, and no call runs in it.
define void @graphc_pool_forget() nounwind {{
  store atomic i64 0, ptr @word monotonic, align 8
  store atomic i64 0, ptr @pending monotonic, align 8
  store atomic i64 0, ptr @started monotonic, align 8
  store atomic i32 0, ptr @sleepers monotonic, align 4
  store atomic i32 0, ptr @ending monotonic, align 4
  store atomic i32 0, ptr @busy seq_cst, align 4
  ret void
}}

define void @graphc_pool_set_limit(i64 %threads) nounwind {{
  store atomic i64 %threads, ptr @limit monotonic, align 8
  ret void
}}

define i64 @graphc_pool_workers() nounwind {{
  %have = load atomic i64, ptr @started monotonic, align 8
  ret i64 %have
}}
"""


def pool_text(target_name: str) -> str:
    """The pool as LLVM text for a target ("x86-64" or "aarch64-linux")."""
    declaration, pause = _PAUSE[target_name]
    return SHARES_TEXT + _TEXT.format(
        pause_declaration=declaration,
        pause=pause,
        futex=_FUTEX[target_name],
        spins=_SPINS,
        spins_per_yield=_SPINS_PER_YIELD,
        store_mask="\n".join(_store_mask()),
    )


def _store_mask() -> Iterator[str]:
    # Volatile, word by word: LLVM must not turn it into a call of memset, which the object has not.
    for word in range(16):
        yield f"  %b{word} = getelementptr i64, ptr %blocked, i64 {word}"
        yield f"  store volatile i64 {_BLOCKED if word == 0 else -1}, ptr %b{word}"


class ThreadPool:
    """The pool in this process. `parallel`: address of graphc_parallel, 0 where all is serial."""

    def __init__(
        self, parallel: int = 0, set_limit: int = 0, workers: int = 0, stop: int = 0
    ) -> None:
        self.parallel = parallel
        self._stop = ctypes.CFUNCTYPE(ctypes.c_int64)(stop) if stop else None
        self._set_limit = ctypes.CFUNCTYPE(None, ctypes.c_int64)(set_limit) if set_limit else None
        self._workers = ctypes.CFUNCTYPE(ctypes.c_int64)(workers) if workers else None

    @property
    def workers(self) -> int:
        """Threads that exist (the callers not counted)."""
        return int(self._workers()) if self._workers else 0

    def set_limit(self, threads: int) -> None:
        """Never use more than this many threads at once, the caller included."""
        if self._set_limit:
            self._set_limit(threads)

    def stop(self) -> None:
        """End the threads, waiting for a call that runs; the next call that needs some starts
        others.
        """
        while self._stop is not None and self.workers and not self._stop():
            time.sleep(1e-4)


def load_pool(cache: ObjectCache) -> ThreadPool:
    """A pool of its own; sessions use `shared_pool`. Serial, and says so, where it cannot be."""
    target = support_target()
    if target is None:
        _log.warning("graphc runs on one thread: there is no thread pool for %s yet", sys.platform)
        return ThreadPool()
    try:
        process = ctypes.CDLL(None)
        externals = {name: _address_of(getattr(process, name)) for name in _EXTERNALS}
        code = load_support_code(pool_text(target.name), externals, cache)
    except (AttributeError, CompileError) as error:
        _log.warning("graphc runs on one thread: the thread pool cannot be loaded: %s", error)
        return ThreadPool()
    _forget_after_fork(process, code.address("graphc_pool_forget"))
    pool = ThreadPool(
        code.address("graphc_parallel"),
        code.address("graphc_pool_set_limit"),
        code.address("graphc_pool_workers"),
        code.address("graphc_pool_stop"),
    )
    pool.set_limit(processors.available())
    return pool


_shared: list[ThreadPool] = []
_shared_lock = threading.Lock()
_users: weakref.WeakSet[object] = weakref.WeakSet()


def shared_pool(cache: ObjectCache, user: object) -> ThreadPool:
    """The one pool of the process, loaded at the first call (from that call's cache).

    user: whoever calls `release` when it needs the pool no more.
    """
    with _shared_lock:
        if not _shared:
            _shared.append(load_pool(cache))
        _users.add(user)
        return _shared[0]


def release(user: object) -> None:
    """`user` needs the pool no more: its threads end where nobody else does."""
    with _shared_lock:
        _users.discard(user)
        if _shared and not _users:
            _shared[0].stop()


def _address_of(function: ctypes._NamedFuncPointer) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _forget_after_fork(process: ctypes.CDLL, forget: int) -> None:
    # The C library's handlers also run when C code forks. glibc has no dynamic pthread_atfork.
    child = ctypes.c_void_p(forget)
    if hasattr(process, "__register_atfork"):
        getattr(process, "__register_atfork")(None, None, child, None)
    elif hasattr(process, "pthread_atfork"):
        process.pthread_atfork(None, None, child)
    else:
        os.register_at_fork(after_in_child=ctypes.CFUNCTYPE(None)(forget))
