"""Public functions that are the same for every library but for names and numbers (floor 8)."""

from __future__ import annotations

# Bytes of workspace: what the entry needs, the spare copies of the state, and room to align.
NEED = """define internal i64 @graphc.need(ptr %dims, i64 %threads, i64 %level) nounwind {{
  %at = getelementptr ptr, ptr @graphc.arenas, i64 %level
  %arena = load ptr, ptr %at, align 8
  %bytes = call i64 %arena(ptr %dims, i64 %threads)
  %need = add i64 %bytes, {extra}
  ret i64 %need
}}"""

THREADS = """define i32 @{p}_set_threads(i32 %threads) nounwind {{
  %few = icmp slt i32 %threads, 1
  %least = select i1 %few, i32 1, i32 %threads
  %many = icmp sgt i32 %least, 256
  %most = select i1 %many, i32 256, i32 %least
  %wide = zext i32 %most to i64
  call void @graphc.pool.resize(i64 %wide)
  ret i32 %most
}}

define i32 @{p}_threads() nounwind {{
  %wide = call i64 @graphc.read(ptr @graphc.threads)
  %threads = trunc i64 %wide to i32
  ret i32 %threads
}}"""

# A weights file is right when its size and its header are: the header holds every name, dtype,
# shape and place.
WEIGHTS = """declare i32 @open(ptr, i32, ...)
declare i64 @lseek(i32, i64, i32)
declare i32 @close(i32)
declare ptr @mmap(ptr, i64, i32, i32, i32, i64)
declare i32 @munmap(ptr, i64)
declare i32 @memcmp(ptr, ptr, i64)

define i32 @{p}_weights_open(ptr %weights, ptr %path) nounwind {{
entry:
  %w = icmp ne ptr %weights, null
  %n = icmp ne ptr %path, null
  %given = and i1 %w, %n
  br i1 %given, label %open, label %null
null:
  ret i32 {null}
open:
  store ptr null, ptr %weights, align 8
  %fd = call i32 (ptr, i32, ...) @open(ptr %path, i32 524288)
  %opened = icmp sge i32 %fd, 0
  br i1 %opened, label %measure, label %bad
measure:
  %size = call i64 @lseek(i32 %fd, i64 0, i32 2)
  %right = icmp eq i64 %size, {size}
  br i1 %right, label %map, label %close
map:
  %base = call ptr @mmap(ptr null, i64 {size}, i32 1, i32 2, i32 %fd, i64 0)
  %address = ptrtoint ptr %base to i64
  %mapped = icmp ne i64 %address, -1
  br i1 %mapped, label %compare, label %close
compare:
  %difference = call i32 @memcmp(ptr %base, ptr @graphc.weights.header, i64 {header})
  %same = icmp eq i32 %difference, 0
  br i1 %same, label %keep, label %unmap
keep:
  %c0 = call i32 @close(i32 %fd)
  store ptr %base, ptr %weights, align 8
  ret i32 0
unmap:
  %u = call i32 @munmap(ptr %base, i64 {size})
  br label %close
close:
  %c1 = call i32 @close(i32 %fd)
  br label %bad
bad:
  ret i32 {bad}
}}

define void @{p}_weights_close(ptr %weights) nounwind {{
entry:
  %given = icmp ne ptr %weights, null
  br i1 %given, label %look, label %done
look:
  %base = load ptr, ptr %weights, align 8
  %open = icmp ne ptr %base, null
  br i1 %open, label %unmap, label %done
unmap:
  %u = call i32 @munmap(ptr %base, i64 {size})
  store ptr null, ptr %weights, align 8
  br label %done
done:
  ret void
}}"""
