"""Memory of large results (runtime, floor 7): NumPy's own arrays, whose memory comes back to us.

NumPy asks a *handler* for the memory of an array and gives it back to the same handler when the
array dies. For large outputs the entry from Python sets the handler below: blocks of whole huge
pages, of which some are kept for the next call. A result that nobody holds any more so becomes the
next one without a page fault; one that is held stays where it is. Invariants: the interpreter's
lock is held in every function here, as NumPy holds it; a block begins with a page of its own that
holds its size. The text is part of the entry's, which makes arrays by `new_array`.
"""

from __future__ import annotations

import ctypes

from graphc.runtime.object_loader import LoadedObject

# From so many bytes on: below, the C library keeps freed memory itself.
LARGE = 4 << 20
# At most so much is kept while nobody uses it, in so many blocks.
KEPT_BYTES = 256 << 20
KEPT_BLOCKS = 16

_HUGE_PAGE = 2 << 20
_PAGE = 4096
EXTERNALS = ("mmap", "munmap", "madvise", "memcpy", "memset")

_TEXT = """
%block = type { ptr, i64 }                   ; address, bytes; null: empty
@kept = internal global [$BLOCKS x %block] zeroinitializer, align 64
@held = internal global i64 0                ; bytes of all kept blocks
@output_handler = internal global ptr null   ; null: NumPy's own

define void @graphc_output_use(ptr %handler) nounwind {
  store ptr %handler, ptr @output_handler
  ret void
}

declare ptr @PyDataMem_SetHandler(ptr)
declare ptr @mmap(ptr, i64, i32, i32, i32, i64)
declare i32 @munmap(ptr, i64)
declare i32 @madvise(ptr, i64, i32)
declare ptr @memcpy(ptr, ptr, i64)
declare ptr @memset(ptr, i32, i64)

; A new array, which takes over the reference to its dtype.
define internal ptr @new_array(ptr %descr, i64 %nd, ptr %shape, i64 %itemsize) nounwind {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %one ]
  %bytes = phi i64 [ %itemsize, %entry ], [ %more, %one ]
  %last = icmp eq i64 %i, %nd
  br i1 %last, label %sized, label %one
one:
  %lp = getelementptr i64, ptr %shape, i64 %i
  %length = load i64, ptr %lp
  %more = mul i64 %bytes, %length
  %i1 = add i64 %i, 1
  br label %loop
sized:
  %nd32 = trunc i64 %nd to i32
  %large = icmp sge i64 %bytes, $LARGE
  br i1 %large, label %choose, label %usual
choose:
  %handler = load ptr, ptr @output_handler
  %none = icmp eq ptr %handler, null
  br i1 %none, label %usual, label %ours
usual:
  %array = call ptr @PyArray_NewFromDescr(
    ptr @ndarray_type, ptr %descr, i32 %nd32, ptr %shape, ptr null, ptr null, i32 0, ptr null)
  ret ptr %array
ours:
  %before = call ptr @PyDataMem_SetHandler(ptr %handler)
  %failed = icmp eq ptr %before, null
  br i1 %failed, label %no_memory, label %allocate
no_memory:
  call void @Py_DecRef(ptr %descr)
  ret ptr null
allocate:
  %own = call ptr @PyArray_NewFromDescr(
    ptr @ndarray_type, ptr %descr, i32 %nd32, ptr %shape, ptr null, ptr null, i32 0, ptr null)
  %after = call ptr @PyDataMem_SetHandler(ptr %before)
  call void @Py_DecRef(ptr %before)
  call void @drop(ptr %after)
  ret ptr %own
}

; A kept block of at least so many bytes that wastes at most a quarter; null where there is none.
define internal ptr @take(i64 %wanted) nounwind {
entry:
  %quarter = lshr i64 %wanted, 2
  %most = add i64 %wanted, %quarter
  br label %look
look:
  %k = phi i64 [ 0, %entry ], [ %next, %again ]
  %at = getelementptr %block, ptr @kept, i64 %k
  %start = load ptr, ptr %at
  %bytes_at = getelementptr %block, ptr %at, i64 0, i32 1
  %bytes = load i64, ptr %bytes_at
  %some = icmp ne ptr %start, null
  %enough = icmp uge i64 %bytes, %wanted
  %modest = icmp ule i64 %bytes, %most
  %fits0 = and i1 %some, %enough
  %fits = and i1 %fits0, %modest
  br i1 %fits, label %found, label %again
again:
  %next = add i64 %k, 1
  %more = icmp ult i64 %next, $BLOCKS
  br i1 %more, label %look, label %none
found:
  store ptr null, ptr %at
  %held = load i64, ptr @held
  %less = sub i64 %held, %bytes
  store i64 %less, ptr @held
  ret ptr %start
none:
  ret ptr null
}

; A new block. Only its first page is touched.
define internal ptr @map(i64 %wanted) nounwind {
entry:
  %length = add i64 %wanted, $SLACK
  %memory = call ptr @mmap(ptr null, i64 %length, i32 3, i32 34, i32 -1, i64 0)
  %first = ptrtoint ptr %memory to i64
  %failed = icmp eq i64 %first, -1
  br i1 %failed, label %none, label %trim
none:
  ret ptr null
trim:
  ; Data on a whole huge page, the size on the page before.
  %up0 = add i64 %first, $SLACK
  %data = and i64 %up0, -$HUGE
  %start = sub i64 %data, $PAGE
  %head = sub i64 %start, %first
  %before = icmp ugt i64 %head, 0
  br i1 %before, label %cut_head, label %cut_tail
cut_head:
  %h = call i32 @munmap(ptr %memory, i64 %head)
  br label %cut_tail
cut_tail:
  %end = add i64 %data, %wanted
  %last = add i64 %first, %length
  %tail = sub i64 %last, %end
  %after = icmp ugt i64 %tail, 0
  br i1 %after, label %cut, label %ready
cut:
  %end_at = inttoptr i64 %end to ptr
  %t = call i32 @munmap(ptr %end_at, i64 %tail)
  br label %ready
ready:
  %data_at = inttoptr i64 %data to ptr
  %m = call i32 @madvise(ptr %data_at, i64 %wanted, i32 14)
  %block = inttoptr i64 %start to ptr
  store i64 %wanted, ptr %block
  ret ptr %block
}

define internal void @release(ptr %block, i64 %bytes) nounwind {
  %all = add i64 %bytes, $PAGE
  %r = call i32 @munmap(ptr %block, i64 %all)
  ret void
}

define ptr @graphc_output_malloc(ptr %context, i64 %size) nounwind {
entry:
  %huge = icmp ugt i64 %size, $MOST
  br i1 %huge, label %none, label %some
some:
  %up = add i64 %size, $ROUND
  %rounded = and i64 %up, -$HUGE
  %zero = icmp eq i64 %rounded, 0
  %wanted = select i1 %zero, i64 $HUGE, i64 %rounded
  %old = call ptr @take(i64 %wanted)
  %have = icmp ne ptr %old, null
  br i1 %have, label %done, label %new
new:
  %fresh = call ptr @map(i64 %wanted)
  %failed = icmp eq ptr %fresh, null
  br i1 %failed, label %none, label %done
done:
  %block = phi ptr [ %old, %some ], [ %fresh, %new ]
  %data = getelementptr i8, ptr %block, i64 $PAGE
  ret ptr %data
none:
  ret ptr null
}

define ptr @graphc_output_calloc(ptr %context, i64 %count, i64 %each) nounwind {
entry:
  %pair = call { i64, i1 } @llvm.umul.with.overflow.i64(i64 %count, i64 %each)
  %size = extractvalue { i64, i1 } %pair, 0
  %wrapped = extractvalue { i64, i1 } %pair, 1
  br i1 %wrapped, label %none, label %some
some:
  %data = call ptr @graphc_output_malloc(ptr %context, i64 %size)
  %failed = icmp eq ptr %data, null
  br i1 %failed, label %none, label %clear
clear:
  %c = call ptr @memset(ptr %data, i32 0, i64 %size)
  ret ptr %data
none:
  ret ptr null
}
declare { i64, i1 } @llvm.umul.with.overflow.i64(i64, i64)

define void @graphc_output_free(ptr %context, ptr %data, i64 %size) nounwind {
entry:
  %nothing = icmp eq ptr %data, null
  br i1 %nothing, label %done, label %some
some:
  %block = getelementptr i8, ptr %data, i64 -$PAGE
  %bytes = load i64, ptr %block
  %held = load i64, ptr @held
  %sum = add i64 %held, %bytes
  %room = icmp ule i64 %sum, $KEPT
  br i1 %room, label %look, label %unmap
look:
  %k = phi i64 [ 0, %some ], [ %next, %again ]
  %at = getelementptr %block, ptr @kept, i64 %k
  %start = load ptr, ptr %at
  %empty = icmp eq ptr %start, null
  br i1 %empty, label %keep, label %again
again:
  %next = add i64 %k, 1
  %more = icmp ult i64 %next, $BLOCKS
  br i1 %more, label %look, label %unmap
keep:
  store ptr %block, ptr %at
  %bytes_at = getelementptr %block, ptr %at, i64 0, i32 1
  store i64 %bytes, ptr %bytes_at
  store i64 %sum, ptr @held
  ret void
unmap:
  call void @release(ptr %block, i64 %bytes)
  ret void
done:
  ret void
}

define ptr @graphc_output_realloc(ptr %context, ptr %data, i64 %size) nounwind {
entry:
  %nothing = icmp eq ptr %data, null
  br i1 %nothing, label %fresh, label %some
fresh:
  %first = call ptr @graphc_output_malloc(ptr %context, i64 %size)
  ret ptr %first
some:
  %block = getelementptr i8, ptr %data, i64 -$PAGE
  %bytes = load i64, ptr %block
  %fits = icmp ule i64 %size, %bytes
  br i1 %fits, label %same, label %move
same:
  ret ptr %data
move:
  %other = call ptr @graphc_output_malloc(ptr %context, i64 %size)
  %failed = icmp eq ptr %other, null
  br i1 %failed, label %none, label %copy
copy:
  %c = call ptr @memcpy(ptr %other, ptr %data, i64 %bytes)
  call void @graphc_output_free(ptr %context, ptr %data, i64 %bytes)
  ret ptr %other
none:
  ret ptr null
}

; Give back everything that nobody uses.
define void @graphc_output_trim() nounwind {
entry:
  br label %look
look:
  %k = phi i64 [ 0, %entry ], [ %next, %again ]
  %at = getelementptr %block, ptr @kept, i64 %k
  %start = load ptr, ptr %at
  %empty = icmp eq ptr %start, null
  br i1 %empty, label %again, label %drop
drop:
  %bytes_at = getelementptr %block, ptr %at, i64 0, i32 1
  %bytes = load i64, ptr %bytes_at
  store ptr null, ptr %at
  call void @release(ptr %start, i64 %bytes)
  br label %again
again:
  %next = add i64 %k, 1
  %more = icmp ult i64 %next, $BLOCKS
  br i1 %more, label %look, label %done
done:
  store i64 0, ptr @held
  ret void
}

define i64 @graphc_output_held() nounwind {
  %held = load i64, ptr @held
  ret i64 %held
}
"""


class _Handler(ctypes.Structure):
    """NumPy's description of a handler, version 1."""

    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p),
        ("calloc", ctypes.c_void_p),
        ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    )


def memory_text() -> str:
    """The LLVM text of the handler."""
    names = {
        "$LARGE": LARGE,
        "$BLOCKS": KEPT_BLOCKS,
        "$KEPT": KEPT_BYTES,
        "$SLACK": _HUGE_PAGE + _PAGE,
        "$ROUND": _HUGE_PAGE - 1,
        "$HUGE": _HUGE_PAGE,
        "$PAGE": _PAGE,
        "$MOST": 1 << 46,  # beyond any address space: the sums above cannot wrap
    }
    text = _TEXT
    for name, value in names.items():
        text = text.replace(name, str(value))
    return text


class OutputMemory:
    """The handler of this process, used by the entry that `code` holds from now on."""

    def __init__(self, code: LoadedObject) -> None:
        functions = [
            code.address(f"graphc_output_{name}")
            for name in ("malloc", "calloc", "realloc", "free")
        ]
        description, name = _Handler(b"graphc", 1, None, *functions), b"mem_handler"
        new = ctypes.PYFUNCTYPE(
            ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
        )(("PyCapsule_New", ctypes.pythonapi))
        handler = new(ctypes.addressof(description), name, None)
        for lasting in (description, name, handler):
            # Arrays refer to them, and some die when modules have been cleared already.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(lasting))
        # PYFUNCTYPE: the interpreter's lock stays held.
        self._trim = ctypes.PYFUNCTYPE(None)(code.address("graphc_output_trim"))
        self._held = ctypes.PYFUNCTYPE(ctypes.c_int64)(code.address("graphc_output_held"))
        use = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(code.address("graphc_output_use"))
        use(id(handler))

    def trim(self) -> None:
        """Give the memory back that no array uses."""
        self._trim()

    @property
    def held(self) -> int:
        """Bytes kept that no array uses."""
        return int(self._held())
