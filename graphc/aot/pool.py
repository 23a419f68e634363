"""The thread pool of a compiled library (floor 8): LLVM text over POSIX threads only.

`graphc.parallel(kernel, args, n, chunk, threads)` runs kernel(args, begin, end, worker) over chunks
of [0, n), of `chunk` indices at most (`runtime.shares`): the caller works too, workers join while
there are chunks left, and the caller waits for those that joined.  A job is published and left
under a mutex, and counters that several threads change are changed by locked instructions only:
race checkers follow both.
Invariants: no thread exists before a call that was allowed several; one job at a time, a second
caller runs serially; after `graphc.pool.resize` to fewer threads none is left over; a forked child
starts with no worker and free locks, whatever its parent was doing.
"""

from __future__ import annotations

from graphc.base.target import Target
from graphc.runtime.shares import SHARES_TEXT

MAX_THREADS = 256
# Polls before a worker sleeps and before a caller sleeps: some 0.1 ms, a few times what a sleeping
# thread needs to wake.
_POLLS = 1000
_PAUSES_PER_POLL = 8
_PAUSE = {
    "x86_64": "call void @llvm.x86.sse2.pause()",
    "aarch64": "call void @llvm.aarch64.hint(i32 1)",
}
# Signals are for the program's own threads, except those that a faulty instruction raises in its
# thread: SIGILL 4, SIGTRAP 5, SIGBUS 7, SIGFPE 8, SIGSEGV 11, SIGSYS 31.
_BLOCKED = ~sum(1 << (signal - 1) for signal in (4, 5, 7, 8, 11, 31))

# A locked instruction that reads: a compare-exchange of a value that is never there for another.
_READ = "cmpxchg ptr {at}, i64 -1, i64 -1 seq_cst seq_cst, align 8"

_TEXT = """
@graphc.mutex = internal global [64 x i8] zeroinitializer, align 64
@graphc.posted = internal global [64 x i8] zeroinitializer, align 64
@graphc.finished = internal global [64 x i8] zeroinitializer, align 64
@graphc.handles = internal global [{most} x i64] zeroinitializer, align 64
@graphc.next = internal global i64 0, align 64        ; the first chunk that nobody has claimed
@graphc.generation = internal global i64 0, align 64  ; changes with every job
@graphc.active = internal global i64 0, align 64      ; workers inside the job
@graphc.callers = internal global [64 x i8] zeroinitializer, align 64  ; held while a call runs
@graphc.threads = internal global i64 1, align 64     ; as the caller asked
; The job and the workers, under the mutex.
@graphc.job = internal global {{ ptr, ptr, i64, i64, i64, i64 }} zeroinitializer, align 64
@graphc.open = internal global i64 0
@graphc.quit = internal global i64 0
@graphc.started = internal global i64 0
@graphc.process = internal global i32 0, align 64

declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_join(i64, ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_trylock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
declare i32 @getpid()

define internal i64 @graphc.read(ptr %at) nounwind {{
  %pair = {read}
  %value = extractvalue {{ i64, i1 }} %pair, 0
  ret i64 %value
}}

; Poll for a while until the counter is not `old` any more.
define internal void @graphc.poll(ptr %at, i64 %old) nounwind {{
entry:
  br label %look
look:
  %polls = phi i64 [ 0, %entry ], [ %more, %again ]
  %now = call i64 @graphc.read(ptr %at)
  %same = icmp eq i64 %now, %old
  %patient = icmp ult i64 %polls, {polls}
  %go = and i1 %same, %patient
  br i1 %go, label %again, label %done
again:
{pauses}
  %more = add i64 %polls, 1
  br label %look
done:
  ret void
}}

define internal void @graphc.chunks(ptr %job, i64 %worker) nounwind {{
entry:
  %fn = load ptr, ptr %job, align 8
  %a1 = getelementptr i64, ptr %job, i64 1
  %args = load ptr, ptr %a1, align 8
  %a2 = getelementptr i64, ptr %job, i64 2
  %length = load i64, ptr %a2, align 8
  %a3 = getelementptr i64, ptr %job, i64 3
  %longer = load i64, ptr %a3, align 8
  %a4 = getelementptr i64, ptr %job, i64 4
  %total = load i64, ptr %a4, align 8
  br label %claim
claim:
  %index = atomicrmw add ptr @graphc.next, i64 1 seq_cst
  %some = icmp slt i64 %index, %total
  br i1 %some, label %run, label %done
run:
  %following = add i64 %index, 1
  %begin = call i64 @graphc.share(i64 %index, i64 %length, i64 %longer)
  %end = call i64 @graphc.share(i64 %following, i64 %length, i64 %longer)
  call void %fn(ptr %args, i64 %begin, i64 %end, i64 %worker)
  br label %claim
done:
  ret void
}}

define internal ptr @graphc.worker(ptr %id) nounwind {{
entry:
  %worker = ptrtoint ptr %id to i64
  %job = alloca [6 x i64], align 64
  %r0 = call i32 @pthread_mutex_lock(ptr @graphc.mutex)
  br label %check
wait:
  %r1 = call i32 @pthread_mutex_unlock(ptr @graphc.mutex)
  call void @graphc.poll(ptr @graphc.generation, i64 %seen)
  %r2 = call i32 @pthread_mutex_lock(ptr @graphc.mutex)
  br label %asleep
asleep:
  %quit = load i64, ptr @graphc.quit, align 8
  %leaving = icmp ne i64 %quit, 0
  br i1 %leaving, label %leave, label %look
look:
  %now = call i64 @graphc.read(ptr @graphc.generation)
  %same = icmp eq i64 %now, %seen
  br i1 %same, label %sleep, label %check
sleep:
  %r3 = call i32 @pthread_cond_wait(ptr @graphc.posted, ptr @graphc.mutex)
  br label %asleep
check:
  %seen = call i64 @graphc.read(ptr @graphc.generation)
  %open = load i64, ptr @graphc.open, align 8
  %is_open = icmp ne i64 %open, 0
  %allowed_at = getelementptr i64, ptr @graphc.job, i64 5
  %allowed = load i64, ptr %allowed_at, align 8
  %mine = icmp slt i64 %worker, %allowed
  %join = and i1 %is_open, %mine
  br i1 %join, label %work, label %wait
work:
  %b0 = atomicrmw add ptr @graphc.active, i64 1 seq_cst
{copy_job}
  %r4 = call i32 @pthread_mutex_unlock(ptr @graphc.mutex)
  call void @graphc.chunks(ptr %job, i64 %worker)
  %r5 = call i32 @pthread_mutex_lock(ptr @graphc.mutex)
  %b1 = atomicrmw sub ptr @graphc.active, i64 1 seq_cst
  %last = icmp eq i64 %b1, 1
  br i1 %last, label %report, label %wait
report:
  %r6 = call i32 @pthread_cond_broadcast(ptr @graphc.finished)
  br label %wait
leave:
  %r7 = call i32 @pthread_mutex_unlock(ptr @graphc.mutex)
  ret ptr null
}}

; Before anything else of the pool: a forked child has none of its parent's workers, but the locks
; and conditions as they happened to be. `process` is whose they are, negative while its first
; caller clears them.
define internal void @graphc.enter() nounwind {{
entry:
  %pid = call i32 @getpid()
  %clearing = sub i32 0, %pid
  br label %look
look:
  %pair = cmpxchg ptr @graphc.process, i32 -1, i32 -1 seq_cst seq_cst, align 4
  %owner = extractvalue {{ i32, i1 }} %pair, 0
  %own = icmp eq i32 %owner, %pid
  br i1 %own, label %done, label %foreign
foreign:
  %busy = icmp eq i32 %owner, %clearing
  br i1 %busy, label %look, label %claim
claim:
  %mark = cmpxchg ptr @graphc.process, i32 %owner, i32 %clearing seq_cst seq_cst, align 4
  %mine = extractvalue {{ i32, i1 }} %mark, 1
  br i1 %mine, label %clear, label %look
clear:
{clear}
  %x = atomicrmw xchg ptr @graphc.process, i32 %pid seq_cst
  br label %done
done:
  ret void
}}

; Have `wanted` workers if the system gives them; returns how many there are. The callers' mutex is
; held.
define internal i64 @graphc.start(i64 %wanted) nounwind {{
entry:
  %blocked = alloca [16 x i64], align 8
  %old = alloca [16 x i64], align 8
  br label %look
look:
  %have = load i64, ptr @graphc.started, align 8
  %enough = icmp sge i64 %have, %wanted
  br i1 %enough, label %done, label %create
create:
{store_mask}
  %m0 = call i32 @pthread_sigmask(i32 2, ptr %blocked, ptr %old)
  %id = add i64 %have, 1
  %arg = inttoptr i64 %id to ptr
  %handle = getelementptr i64, ptr @graphc.handles, i64 %have
  %rc = call i32 @pthread_create(ptr %handle, ptr null, ptr @graphc.worker, ptr %arg)
  %m1 = call i32 @pthread_sigmask(i32 2, ptr %old, ptr null)
  %failed = icmp ne i32 %rc, 0
  br i1 %failed, label %done, label %created
created:
  store i64 %id, ptr @graphc.started, align 8
  br label %look
done:
  ret i64 %have
}}

define internal void @graphc.parallel(
  ptr %fn, ptr %args, i64 %n, i64 %chunk, i64 %threads
) nounwind {{
entry:
  %job = alloca [6 x i64], align 64
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %count, label %nothing
nothing:
  ret void
count:
  %sane = icmp sgt i64 %chunk, 0
  %step = select i1 %sane, i64 %chunk, i64 %n
  %n1 = sub i64 %n, 1
  %q = udiv i64 %n1, %step
  %chunks = add i64 %q, 1
  %fewer = icmp slt i64 %threads, %chunks
  %team = select i1 %fewer, i64 %threads, i64 %chunks
  %many = icmp sgt i64 %team, 1
  br i1 %many, label %lock, label %serial
lock:
  call void @graphc.enter()
  %taken = call i32 @pthread_mutex_trylock(ptr @graphc.callers)
  %mine = icmp eq i32 %taken, 0
  br i1 %mine, label %locked, label %serial
serial:
  call void %fn(ptr %args, i64 0, i64 %n, i64 0)
  ret void
locked:
  %wanted = sub i64 %team, 1
  %have = call i64 @graphc.start(i64 %wanted)
  %alone = icmp eq i64 %have, 0
  br i1 %alone, label %unlock_serial, label %publish
unlock_serial:
  %u0 = call i32 @pthread_mutex_unlock(ptr @graphc.callers)
  br label %serial
publish:
  %total = call i64 @graphc.shares(i64 %n, i64 %step, i64 %team)
  %length = udiv i64 %n, %total
  %longer = urem i64 %n, %total
  %r0 = call i32 @pthread_mutex_lock(ptr @graphc.mutex)
  store ptr %fn, ptr @graphc.job, align 8
  %j1 = getelementptr i64, ptr @graphc.job, i64 1
  store ptr %args, ptr %j1, align 8
  %j2 = getelementptr i64, ptr @graphc.job, i64 2
  store i64 %length, ptr %j2, align 8
  %j3 = getelementptr i64, ptr @graphc.job, i64 3
  store i64 %longer, ptr %j3, align 8
  %j4 = getelementptr i64, ptr @graphc.job, i64 4
  store i64 %total, ptr %j4, align 8
  %j5 = getelementptr i64, ptr @graphc.job, i64 5
  store i64 %team, ptr %j5, align 8
  store i64 1, ptr @graphc.open, align 8
  %x0 = atomicrmw xchg ptr @graphc.next, i64 0 seq_cst
  %x1 = atomicrmw add ptr @graphc.generation, i64 1 seq_cst
  %r1 = call i32 @pthread_cond_broadcast(ptr @graphc.posted)
  %r2 = call i32 @pthread_mutex_unlock(ptr @graphc.mutex)
  store ptr %fn, ptr %job, align 8
  %k1 = getelementptr i64, ptr %job, i64 1
  store ptr %args, ptr %k1, align 8
  %k2 = getelementptr i64, ptr %job, i64 2
  store i64 %length, ptr %k2, align 8
  %k3 = getelementptr i64, ptr %job, i64 3
  store i64 %longer, ptr %k3, align 8
  %k4 = getelementptr i64, ptr %job, i64 4
  store i64 %total, ptr %k4, align 8
  call void @graphc.chunks(ptr %job, i64 0)
  %inside = call i64 @graphc.read(ptr @graphc.active)
  %some = icmp ne i64 %inside, 0
  br i1 %some, label %watch, label %close
watch:
  call void @graphc.poll(ptr @graphc.active, i64 %inside)
  br label %close
close:
  %r3 = call i32 @pthread_mutex_lock(ptr @graphc.mutex)
  store i64 0, ptr @graphc.open, align 8
  br label %left
left:
  %still = call i64 @graphc.read(ptr @graphc.active)
  %over = icmp eq i64 %still, 0
  br i1 %over, label %finish, label %sleep
sleep:
  %r4 = call i32 @pthread_cond_wait(ptr @graphc.finished, ptr @graphc.mutex)
  br label %left
finish:
  %r5 = call i32 @pthread_mutex_unlock(ptr @graphc.mutex)
  %u1 = call i32 @pthread_mutex_unlock(ptr @graphc.callers)
  ret void
}}

; Allow that many threads a call; ends workers that are too many.
define internal void @graphc.pool.resize(i64 %threads) nounwind {{
entry:
  call void @graphc.enter()
  %l0 = call i32 @pthread_mutex_lock(ptr @graphc.callers)
  %x0 = atomicrmw xchg ptr @graphc.threads, i64 %threads seq_cst
  %keep = call i64 @graphc.start(i64 0)
  %surplus = icmp sge i64 %keep, %threads
  br i1 %surplus, label %stop, label %done
stop:
  %r0 = call i32 @pthread_mutex_lock(ptr @graphc.mutex)
  store i64 1, ptr @graphc.quit, align 8
  %x1 = atomicrmw add ptr @graphc.generation, i64 1 seq_cst
  %r1 = call i32 @pthread_cond_broadcast(ptr @graphc.posted)
  %r2 = call i32 @pthread_mutex_unlock(ptr @graphc.mutex)
  br label %join
join:
  %k = phi i64 [ 0, %stop ], [ %k1, %joined ]
  %more = icmp slt i64 %k, %keep
  br i1 %more, label %joined, label %ended
joined:
  %at = getelementptr i64, ptr @graphc.handles, i64 %k
  %handle = load i64, ptr %at, align 8
  %rc = call i32 @pthread_join(i64 %handle, ptr null)
  %k1 = add i64 %k, 1
  br label %join
ended:
  store i64 0, ptr @graphc.quit, align 8
  store i64 0, ptr @graphc.started, align 8
  br label %done
done:
  %x2 = call i32 @pthread_mutex_unlock(ptr @graphc.callers)
  ret void
}}
"""


def pool_text(target: Target) -> str:
    """The pool as LLVM text for a target with POSIX threads."""
    pause = _PAUSE.get(target.triple.split("-")[0], "")
    return SHARES_TEXT + _TEXT.format(
        most=MAX_THREADS,
        read=_READ.format(at="%at"),
        polls=_POLLS,
        pauses="\n".join(f"  {pause}" for _ in range(_PAUSES_PER_POLL)) if pause else "",
        clear="\n".join(_clear()),
        copy_job="\n".join(_copy_job()),
        store_mask="\n".join(_store_mask()),
    )


def _clear() -> list[str]:
    locks = ("mutex", "posted", "finished", "callers")
    zeros = [f"  store [8 x i64] zeroinitializer, ptr @graphc.{name}, align 64" for name in locks]
    counts = ("active", "open", "quit", "started")
    return [*zeros, *(f"  store i64 0, ptr @graphc.{name}, align 8" for name in counts)]


def _copy_job() -> list[str]:
    lines = []
    for k in range(6):
        lines += [
            f"  %from{k} = getelementptr i64, ptr @graphc.job, i64 {k}",
            f"  %field{k} = load i64, ptr %from{k}, align 8",
            f"  %to{k} = getelementptr i64, ptr %job, i64 {k}",
            f"  store i64 %field{k}, ptr %to{k}, align 8",
        ]
    return lines


def _store_mask() -> list[str]:
    lines = []
    for word in range(16):
        lines += [
            f"  %b{word} = getelementptr i64, ptr %blocked, i64 {word}",
            f"  store i64 {_BLOCKED if word == 0 else -1}, ptr %b{word}",
        ]
    return lines
