"""The LLVM text of the entry from Python (runtime, floor 7): data; `python_entry` explains it.

`$NAME` is a constant of `python_entry`.  Three short forms stand for a load: `slot NAME type` at a
place of the record, `item %row k type` at word k of a table row, `field %object offset type` in an
object's struct.
"""

from __future__ import annotations

TEXT = """
@ndarray_type = external global i8
@none = external global i8
declare ptr @PyObject_Vectorcall(ptr, ptr, i64, ptr)
declare ptr @PyTuple_New(i64)
declare i64 @PyTuple_Size(ptr)
declare ptr @PyLong_FromLongLong(i64)
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare ptr @PyArray_NewFromDescr(ptr, ptr, i32, ptr, ptr, ptr, i32, ptr)

; New arrays for the outputs, or the given ones. How many: too few after an error.
define internal i64 @make_outputs(ptr %record, ptr %args) nounwind {
entry:
  %count = slot OUTPUTS i64
  %given = slot GIVEN i64
  %results = slot RESULTS ptr
  %is_given = icmp ne i64 %given, 0
  br i1 %is_given, label %take_start, label %make_start
take_start:
  %arguments = slot ARGUMENTS i64
  %inputs = sub i64 %arguments, %count
  br label %take
take:
  %t = phi i64 [ 0, %take_start ], [ %t1, %take_one ]
  %t_last = icmp eq i64 %t, %count
  br i1 %t_last, label %done, label %take_one
take_one:
  %ti = add i64 %inputs, %t
  %tp = getelementptr ptr, ptr %args, i64 %ti
  %taken = load ptr, ptr %tp
  call void @Py_IncRef(ptr %taken)
  %trp = getelementptr ptr, ptr %results, i64 %t
  store ptr %taken, ptr %trp
  %t1 = add i64 %t, 1
  br label %take
make_start:
  %table = slot OUTPUT_TABLE ptr
  %dims = slot DIMS ptr
  %buffers = slot BUFFERS ptr
  %shape = slot SHAPE ptr
  br label %make
make:
  %o = phi i64 [ 0, %make_start ], [ %o1, %made ]
  %o_last = icmp eq i64 %o, %count
  br i1 %o_last, label %done, label %make_one
make_one:
  %start = mul i64 %o, 5
  %row = getelementptr i64, ptr %table, i64 %start
  %descr = item %row 0 ptr
  %nd = item %row 1 i64
  %dim_table = item %row 2 ptr
  br label %size_loop
size_loop:
  %i = phi i64 [ 0, %make_one ], [ %i1, %sized ]
  %i_last = icmp eq i64 %i, %nd
  br i1 %i_last, label %allocate, label %size_one
size_one:
  %dim_start = mul i64 %i, 2
  %dim = getelementptr i64, ptr %dim_table, i64 %dim_start
  %kind = item %dim 0 i64
  %a = item %dim 1 i64
  switch i64 %kind, label %sized [ i64 $SYMBOL_DIM, label %bound  i64 $CODE, label %computed ]
bound:
  %vp = getelementptr i64, ptr %dims, i64 %a
  %value = load i64, ptr %vp
  br label %sized
computed:
  %code = inttoptr i64 %a to ptr
  %result = call i64 @evaluate(ptr %code, ptr %dims)
  br label %sized
sized:
  %size = phi i64 [ %a, %size_one ], [ %value, %bound ], [ %result, %computed ]
  %shp = getelementptr i64, ptr %shape, i64 %i
  store i64 %size, ptr %shp
  %i1 = add i64 %i, 1
  br label %size_loop
allocate:
  call void @Py_IncRef(ptr %descr)
  %itemsize = item %row 4 i64
  %array = call ptr @new_array(ptr %descr, i64 %nd, ptr %shape, i64 %itemsize)
  %failed = icmp eq ptr %array, null
  br i1 %failed, label %stopped, label %made
made:
  %rp = getelementptr ptr, ptr %results, i64 %o
  store ptr %array, ptr %rp
  %data = field %array $DATA i64
  %to = item %row 3 i64
  %bp = getelementptr i64, ptr %buffers, i64 %to
  store i64 %data, ptr %bp
  %o1 = add i64 %o, 1
  br label %make
stopped:
  ret i64 %o
done:
  ret i64 %count
}

define internal void @drop_outputs(ptr %record, i64 %count) nounwind {
entry:
  %results = slot RESULTS ptr
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %one ]
  %last = icmp sge i64 %i, %count
  br i1 %last, label %done, label %one
one:
  %rp = getelementptr ptr, ptr %results, i64 %i
  %object = load ptr, ptr %rp
  call void @Py_DecRef(ptr %object)
  %i1 = add i64 %i, 1
  br label %loop
done:
  ret void
}

; swap false: the variables' pointers into the buffers. swap true: new values become current.
define internal void @variables(ptr %record, i1 %swap) nounwind {
entry:
  %count = slot CELLS i64
  %table = slot CELL_TABLE ptr
  %buffers = slot BUFFERS ptr
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %next ]
  %last = icmp eq i64 %i, %count
  br i1 %last, label %done, label %one
one:
  %start = mul i64 %i, 3
  %row = getelementptr i64, ptr %table, i64 %start
  %cell = item %row 0 ptr
  %from = item %row 1 i64
  %to = item %row 2 i64
  %current = item %cell 0 i64
  %spare_p = getelementptr i64, ptr %cell, i64 1
  %spare = load i64, ptr %spare_p
  %updated = icmp sge i64 %to, 0
  br i1 %swap, label %commit, label %read
read:
  %fp = getelementptr i64, ptr %buffers, i64 %from
  store i64 %current, ptr %fp
  br i1 %updated, label %target, label %next
target:
  %tp = getelementptr i64, ptr %buffers, i64 %to
  store i64 %spare, ptr %tp
  br label %next
commit:
  br i1 %updated, label %exchange, label %next
exchange:
  store i64 %spare, ptr %cell
  store i64 %current, ptr %spare_p
  br label %next
next:
  %i1 = add i64 %i, 1
  br label %loop
done:
  ret void
}

; Run the program; the error site. Programs that compute sizes are told where the arena ends; where
; they ask for more of it, the bytes that it would need are kept.
define internal i64 @execute(ptr %record) nounwind {
  %entry = slot ENTRY ptr
  %context = slot CONTEXT ptr
  %buffers = slot BUFFERS ptr
  %dims = slot DIMS ptr
  %arena_record = slot ARENA ptr
  %arena = item %arena_record 0 ptr
  %capacity = item %arena_record 1 i64
  %start = ptrtoint ptr %arena to i64
  %end = add i64 %start, %capacity
  %end_at = getelementptr i64, ptr %context, i64 $ARENA_END_SLOT
  store i64 %end, ptr %end_at
  store i64 0, ptr %context
  %code = slot WORK ptr
  %work = call i64 @evaluate(ptr %code, ptr %dims)
  %threshold = slot RELEASE i64
  %long = icmp sge i64 %work, %threshold
  br i1 %long, label %release, label %keep
release:
  %state = call ptr @PyEval_SaveThread()
  %site0 = call i64 %entry(ptr %context, ptr %buffers, ptr %dims, ptr %arena)
  call void @PyEval_RestoreThread(ptr %state)
  br label %ran
keep:
  %site1 = call i64 %entry(ptr %context, ptr %buffers, ptr %dims, ptr %arena)
  br label %ran
ran:
  %site = phi i64 [ %site0, %release ], [ %site1, %keep ]
  %more = icmp eq i64 %site, $MORE_MEMORY
  br i1 %more, label %ask, label %done
ask:
  %reach = item %context $FREE_SLOT i64
  %bytes = sub i64 %reach, %start
  %needed_at = getelementptr i64, ptr %record, i64 $NEEDED
  store i64 %bytes, ptr %needed_at
  br label %done
done:
  ret i64 %site
}

define i64 @graphc_try_lock(ptr %word, i64 %holder) nounwind {
  %pair = cmpxchg ptr %word, i64 0, i64 %holder acq_rel monotonic, align 8
  %won = extractvalue { i64, i1 } %pair, 1
  %result = zext i1 %won to i64
  ret i64 %result
}

define ptr @graphc_python_call(ptr %self, ptr %args, i64 %nargs, ptr %keywords) nounwind {
  %result = tail call ptr @run(ptr %self, ptr %args, i64 %nargs, ptr %keywords, ptr null)
  ret ptr %result
}

; A call of the record in `self`. first: null, or what the fallback gets before the arguments.
define internal ptr @run(
  ptr %self, ptr %args, i64 %nargs, ptr %keywords, ptr %first_argument) nounwind {
entry:
  %argument = alloca ptr, align 8
  %array = field %self $ITEMS ptr
  %record = field %array $DATA ptr
  %count = slot ARGUMENTS i64
  %positional = icmp eq ptr %keywords, null
  %as_many = icmp eq i64 %nargs, %count
  %plain = and i1 %positional, %as_many
  br i1 %plain, label %begin, label %refuse
begin:
  %shut_at = slot SHUT ptr
  %shut = load i64, ptr %shut_at
  %open = icmp eq i64 %shut, 0
  br i1 %open, label %start, label %refuse
start:
  %outputs = slot OUTPUTS i64
  %kind = slot KIND i64
  %word = slot LOCK ptr
  %several = icmp eq i64 %kind, 2
  br i1 %several, label %make_tuple, label %lock
make_tuple:
  ; Before the lock: creating a tuple may collect garbage, that is, run Python code.
  %new = call ptr @PyTuple_New(i64 %outputs)
  %no_memory = icmp eq ptr %new, null
  br i1 %no_memory, label %give_up, label %lock
lock:
  %tuple = phi ptr [ null, %start ], [ %new, %make_tuple ]
  %won = call i64 @graphc_try_lock(ptr %word, i64 1)
  %locked = icmp ne i64 %won, 0
  br i1 %locked, label %checks, label %drop
checks:
  %ok = call i1 @check(ptr %record, ptr %args)
  br i1 %ok, label %arena, label %unlock
arena:
  %arena_bytes = slot ARENA_BYTES ptr
  %dims = slot DIMS ptr
  %context = slot CONTEXT ptr
  %threads = item %context 2 i64
  %needed = call i64 %arena_bytes(ptr %dims, i64 %threads)
  %arena_record = slot ARENA ptr
  %capacity = item %arena_record 1 i64
  %roomy = icmp sle i64 %needed, %capacity
  br i1 %roomy, label %allocate, label %unlock_small
allocate:
  %made = call i64 @make_outputs(ptr %record, ptr %args)
  %all = icmp eq i64 %made, %outputs
  br i1 %all, label %run, label %unlock_give_up
run:
  call void @variables(ptr %record, i1 false)
  %site = call i64 @execute(ptr %record)
  switch i64 %site, label %report [ i64 0, label %commit  i64 $MORE_MEMORY, label %more ]
more:
  call void @drop_outputs(ptr %record, i64 %outputs)
  br label %unlock_small
commit:
  call void @variables(ptr %record, i1 true)
  %results = slot RESULTS ptr
  %first = load ptr, ptr %results
  switch i64 %kind, label %nothing [ i64 1, label %single  i64 2, label %fill ]
nothing:
  store atomic i64 0, ptr %word release, align 8
  call void @Py_IncRef(ptr @none)
  ret ptr @none
single:
  store atomic i64 0, ptr %word release, align 8
  ret ptr %first
fill:
  %i = phi i64 [ 0, %commit ], [ %i1, %fill_one ]
  %last = icmp eq i64 %i, %outputs
  br i1 %last, label %filled, label %fill_one
fill_one:
  %rp = getelementptr ptr, ptr %results, i64 %i
  %object = load ptr, ptr %rp
  %items = getelementptr i8, ptr %tuple, i64 $ITEMS
  %ip = getelementptr ptr, ptr %items, i64 %i
  store ptr %object, ptr %ip
  %i1 = add i64 %i, 1
  br label %fill
filled:
  store atomic i64 0, ptr %word release, align 8
  ret ptr %tuple
report:
  call void @drop_outputs(ptr %record, i64 %outputs)
  store atomic i64 0, ptr %word release, align 8
  call void @drop(ptr %tuple)
  %on_error = slot ON_ERROR ptr
  %again = icmp eq ptr %on_error, null
  br i1 %again, label %refuse, label %number_it
number_it:
  %number = call ptr @PyLong_FromLongLong(i64 %site)
  %no_number = icmp eq ptr %number, null
  br i1 %no_number, label %give_up, label %raise
raise:
  store ptr %number, ptr %argument
  %raised = call ptr @PyObject_Vectorcall(ptr %on_error, ptr %argument, i64 1, ptr null)
  call void @Py_DecRef(ptr %number)
  ret ptr %raised
unlock_give_up:
  call void @drop_outputs(ptr %record, i64 %made)
  store atomic i64 0, ptr %word release, align 8
  call void @drop(ptr %tuple)
  br label %give_up
give_up:
  ret ptr null
unlock_small:
  br label %unlock
unlock:
  %why_not = phi i64 [ $REFUSE_ARGUMENTS, %checks ], [ $REFUSE_ARENA, %unlock_small ]
  store atomic i64 0, ptr %word release, align 8
  br label %drop
drop:
  %why = phi i64 [ $REFUSE_BUSY, %lock ], [ %why_not, %unlock ]
  call void @drop(ptr %tuple)
  br label %refuse
refuse:
  %reason = phi i64 [ $REFUSE_ARGUMENTS, %entry ], [ $REFUSE_SHUT, %begin ], [ %why, %drop ],
    [ $REFUSE_SHUT, %report ]
  %fallback = slot FALLBACK ptr
  %strict = icmp eq ptr %fallback, null
  br i1 %strict, label %say, label %fall_back
say:
  %said = call ptr @PyLong_FromLongLong(i64 %reason)
  ret ptr %said
fall_back:
  %free = icmp eq ptr %first_argument, null
  br i1 %free, label %function, label %method
function:
  %result = call ptr @PyObject_Vectorcall(ptr %fallback, ptr %args, i64 %nargs, ptr %keywords)
  ret ptr %result
method:
  br i1 %positional, label %prepend, label %count_keywords
count_keywords:
  %named = call i64 @PyTuple_Size(ptr %keywords)
  br label %prepend
prepend:
  %extra = phi i64 [ 0, %method ], [ %named, %count_keywords ]
  %given = add i64 %nargs, %extra
  %room = add i64 %given, 1
  %stack = alloca ptr, i64 %room, align 8
  store ptr %first_argument, ptr %stack
  br label %copy
copy:
  %c = phi i64 [ 0, %prepend ], [ %c1, %copy_one ]
  %copied = icmp eq i64 %c, %given
  br i1 %copied, label %call, label %copy_one
copy_one:
  %from = getelementptr ptr, ptr %args, i64 %c
  %object1 = load ptr, ptr %from
  %c1 = add i64 %c, 1
  %into = getelementptr ptr, ptr %stack, i64 %c1
  store ptr %object1, ptr %into
  br label %copy
call:
  %all_given = add i64 %nargs, 1
  %answer = call ptr @PyObject_Vectorcall(
    ptr %fallback, ptr %stack, i64 %all_given, ptr %keywords)
  ret ptr %answer
}

@bound_at = internal global i64 0            ; where a `Function` keeps its tuple

define void @graphc_method_bind(i64 %offset) nounwind {
  store i64 %offset, ptr @bound_at
  ret void
}

; The method by which a `Function` is called.
define ptr @graphc_method_call(ptr %self, ptr %args, i64 %nargs, ptr %keywords) nounwind {
  %offset = load i64, ptr @bound_at
  %at = getelementptr i8, ptr %self, i64 %offset
  %bound = load ptr, ptr %at
  %result = tail call ptr @run(
    ptr %bound, ptr %args, i64 %nargs, ptr %keywords, ptr %self)
  ret ptr %result
}

define internal void @drop(ptr %tuple) nounwind {
  %none = icmp eq ptr %tuple, null
  br i1 %none, label %done, label %release
release:
  call void @Py_DecRef(ptr %tuple)
  br label %done
done:
  ret void
}
"""
