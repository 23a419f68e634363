"""The LLVM text that checks the arguments of a call (runtime, floor 7): data; part of the text of
`python_entry_text`, in whose short forms it is written.
"""

from __future__ import annotations

CHECKS = """
; The value of a size expression.
define internal i64 @evaluate(ptr %code, ptr %dims) nounwind {
entry:
  %stack = alloca [$CODE_STACK x i64], align 8
  store i64 0, ptr %stack
  br label %step
step:
  %pc = phi ptr [ %code, %entry ], [ %pc2, %push ], [ %pc1, %operate ]
  %sp = phi i64 [ 0, %entry ], [ %sp1, %push ], [ %low, %operate ]
  %op = load i64, ptr %pc
  %pc1 = getelementptr i64, ptr %pc, i64 1
  %end = icmp eq i64 %op, $END
  br i1 %end, label %done, label %more
more:
  %low = sub i64 %sp, 1
  %pushes = icmp sle i64 %op, $SYMBOL
  br i1 %pushes, label %operand, label %operate
operand:
  %raw = load i64, ptr %pc1
  %pc2 = getelementptr i64, ptr %pc, i64 2
  %literal = icmp eq i64 %op, $CONSTANT
  br i1 %literal, label %push, label %symbol
symbol:
  %where = getelementptr i64, ptr %dims, i64 %raw
  %bound = load i64, ptr %where
  br label %push
push:
  %value = phi i64 [ %raw, %operand ], [ %bound, %symbol ]
  %top = getelementptr i64, ptr %stack, i64 %sp
  store i64 %value, ptr %top
  %sp1 = add i64 %sp, 1
  br label %step
operate:
  %ra = getelementptr i64, ptr %stack, i64 %low
  %lp = sub i64 %sp, 2
  %la = getelementptr i64, ptr %stack, i64 %lp
  %right = load i64, ptr %ra
  %left = load i64, ptr %la
  %sum = add i64 %left, %right
  %product = mul i64 %left, %right
  %positive = icmp sgt i64 %right, 0
  %divisor = select i1 %positive, i64 %right, i64 1
  %q = sdiv i64 %left, %divisor
  %r = srem i64 %left, %divisor
  %negative = icmp slt i64 %r, 0
  %less = sext i1 %negative to i64
  %quotient = add i64 %q, %less
  %adds = icmp eq i64 %op, $ADD
  %multiplies = icmp eq i64 %op, $MULTIPLY
  %v0 = select i1 %multiplies, i64 %product, i64 %quotient
  %v1 = select i1 %adds, i64 %sum, i64 %v0
  store i64 %v1, ptr %la
  br label %step
done:
  %result = load i64, ptr %stack
  ret i64 %result
}

; Whether an argument fits its table entry; binds symbols.
define internal i1 @fits(ptr %arg, ptr %row, ptr %dims) nounwind {
entry:
  %type = field %arg $TYPE ptr
  %is_array = icmp eq ptr %type, @ndarray_type
  br i1 %is_array, label %array, label %no
array:
  %descr = field %arg $DESCR ptr
  %want_descr = item %row 0 ptr
  %ok0 = icmp eq ptr %descr, %want_descr
  %flags32 = field %arg $FLAGS i32
  %flags = zext i32 %flags32 to i64
  %want_flags = item %row 1 i64
  %have_flags = and i64 %flags, %want_flags
  %ok1 = icmp eq i64 %have_flags, %want_flags
  %nd32 = field %arg $NDIM i32
  %nd = sext i32 %nd32 to i64
  %want_nd = item %row 2 i64
  %ok2 = icmp eq i64 %nd, %want_nd
  %ok01 = and i1 %ok0, %ok1
  %ok = and i1 %ok01, %ok2
  br i1 %ok, label %shape, label %no
shape:
  %lengths = field %arg $SHAPE_OF ptr
  %table = item %row 3 ptr
  br label %loop
loop:
  %i = phi i64 [ 0, %shape ], [ %next, %good ]
  %over = icmp eq i64 %i, %nd
  br i1 %over, label %yes, label %one
one:
  %lp = getelementptr i64, ptr %lengths, i64 %i
  %length = load i64, ptr %lp
  %start = mul i64 %i, 4
  %dim = getelementptr i64, ptr %table, i64 %start
  %kind = item %dim 0 i64
  %a = item %dim 1 i64
  switch i64 %kind, label %good [
    i64 $FIXED, label %fixed
    i64 $BIND, label %bind
    i64 $SYMBOL_DIM, label %same
  ]
fixed:
  %ok3 = icmp eq i64 %length, %a
  br i1 %ok3, label %good, label %no
same:
  %sp = getelementptr i64, ptr %dims, i64 %a
  %bound = load i64, ptr %sp
  %ok4 = icmp eq i64 %length, %bound
  br i1 %ok4, label %good, label %no
bind:
  %b = item %dim 2 i64
  %c = item %dim 3 i64
  %rest = sub i64 %length, %c
  %simple = icmp eq i64 %b, 1
  br i1 %simple, label %set, label %divide
divide:
  %q = sdiv i64 %rest, %b
  %back = mul i64 %q, %b
  %ok5 = icmp eq i64 %back, %rest
  br i1 %ok5, label %set, label %no
set:
  %value = phi i64 [ %rest, %bind ], [ %q, %divide ]
  %vp = getelementptr i64, ptr %dims, i64 %a
  store i64 %value, ptr %vp
  br label %good
good:
  %next = add i64 %i, 1
  br label %loop
yes:
  ret i1 true
no:
  ret i1 false
}

; The bytes of an array that is contiguous.
define internal i64 @bytes_of(ptr %arg, i64 %itemsize) nounwind {
entry:
  %nd32 = field %arg $NDIM i32
  %nd = sext i32 %nd32 to i64
  %lengths = field %arg $SHAPE_OF ptr
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %one ]
  %bytes = phi i64 [ %itemsize, %entry ], [ %more, %one ]
  %last = icmp eq i64 %i, %nd
  br i1 %last, label %done, label %one
one:
  %lp = getelementptr i64, ptr %lengths, i64 %i
  %length = load i64, ptr %lp
  %more = mul i64 %bytes, %length
  %i1 = add i64 %i, 1
  br label %loop
done:
  ret i64 %bytes
}

; Whether given outputs share no memory with inputs or with each other.
define internal i1 @apart(ptr %record, ptr %args) nounwind {
entry:
  %count = slot ARGUMENTS i64
  %outputs = slot OUTPUTS i64
  %table = slot ARGUMENT_TABLE ptr
  %inputs = sub i64 %count, %outputs
  br label %outer
outer:
  %o = phi i64 [ %inputs, %entry ], [ %o1, %outer_next ]
  %o_last = icmp eq i64 %o, %count
  br i1 %o_last, label %yes, label %output
output:
  %op = getelementptr ptr, ptr %args, i64 %o
  %out = load ptr, ptr %op
  %o_place = mul i64 %o, 6
  %o_row = getelementptr i64, ptr %table, i64 %o_place
  %o_size = item %o_row 5 i64
  %o_bytes = call i64 @bytes_of(ptr %out, i64 %o_size)
  %o_start = field %out $DATA i64
  %o_end = add i64 %o_start, %o_bytes
  br label %inner
inner:
  %a = phi i64 [ 0, %output ], [ %a1, %inner_next ]
  %a_last = icmp eq i64 %a, %o
  br i1 %a_last, label %outer_next, label %other
other:
  %ap = getelementptr ptr, ptr %args, i64 %a
  %arg = load ptr, ptr %ap
  %a_place = mul i64 %a, 6
  %a_row = getelementptr i64, ptr %table, i64 %a_place
  %a_size = item %a_row 5 i64
  %a_bytes = call i64 @bytes_of(ptr %arg, i64 %a_size)
  %a_start = field %arg $DATA i64
  %a_end = add i64 %a_start, %a_bytes
  %before = icmp ult i64 %o_start, %a_end
  %behind = icmp ult i64 %a_start, %o_end
  %meet = and i1 %before, %behind
  br i1 %meet, label %no, label %inner_next
inner_next:
  %a1 = add i64 %a, 1
  br label %inner
outer_next:
  %o1 = add i64 %o, 1
  br label %outer
yes:
  ret i1 true
no:
  ret i1 false
}

; All arguments, bounds and computed sizes; fills the buffers of the arguments.
define internal i1 @check(ptr %record, ptr %args) nounwind {
entry:
  %count = slot ARGUMENTS i64
  %table = slot ARGUMENT_TABLE ptr
  %dims = slot DIMS ptr
  %buffers = slot BUFFERS ptr
  br label %arguments
arguments:
  %i = phi i64 [ 0, %entry ], [ %i1, %argument_fits ]
  %last = icmp eq i64 %i, %count
  br i1 %last, label %symbols_start, label %argument
argument:
  %ap = getelementptr ptr, ptr %args, i64 %i
  %arg = load ptr, ptr %ap
  %start = mul i64 %i, 6
  %row = getelementptr i64, ptr %table, i64 %start
  %ok0 = call i1 @fits(ptr %arg, ptr %row, ptr %dims)
  br i1 %ok0, label %argument_fits, label %no
argument_fits:
  %data = field %arg $DATA i64
  %to = item %row 4 i64
  %bp = getelementptr i64, ptr %buffers, i64 %to
  store i64 %data, ptr %bp
  %i1 = add i64 %i, 1
  br label %arguments
symbols_start:
  %symbols = slot SYMBOLS i64
  %bounds = slot SYMBOL_TABLE ptr
  br label %symbols_loop
symbols_loop:
  %s = phi i64 [ 0, %symbols_start ], [ %s1, %in_bounds ]
  %s_last = icmp eq i64 %s, %symbols
  br i1 %s_last, label %checks_start, label %symbol
symbol:
  %vp = getelementptr i64, ptr %dims, i64 %s
  %value = load i64, ptr %vp
  %s_start = mul i64 %s, 3
  %s_row = getelementptr i64, ptr %bounds, i64 %s_start
  %low = item %s_row 0 i64
  %high = item %s_row 1 i64
  %multiple = item %s_row 2 i64
  %ge = icmp sge i64 %value, %low
  %le = icmp sle i64 %value, %high
  %within = and i1 %ge, %le
  br i1 %within, label %multiples, label %no
multiples:
  %any = icmp eq i64 %multiple, 1
  br i1 %any, label %in_bounds, label %remainder
remainder:
  %rem = srem i64 %value, %multiple
  %exact = icmp eq i64 %rem, 0
  br i1 %exact, label %in_bounds, label %no
in_bounds:
  %s1 = add i64 %s, 1
  br label %symbols_loop
checks_start:
  %checks = slot CHECKS i64
  %check_table = slot CHECK_TABLE ptr
  br label %checks_loop
checks_loop:
  %k = phi i64 [ 0, %checks_start ], [ %k1, %check_fits ]
  %k_last = icmp eq i64 %k, %checks
  br i1 %k_last, label %given_or_not, label %one_check
one_check:
  %k_start = mul i64 %k, 3
  %k_row = getelementptr i64, ptr %check_table, i64 %k_start
  %which = item %k_row 0 i64
  %axis = item %k_row 1 i64
  %code = item %k_row 2 ptr
  %cap = getelementptr ptr, ptr %args, i64 %which
  %carg = load ptr, ptr %cap
  %lengths = field %carg $SHAPE_OF ptr
  %lp = getelementptr i64, ptr %lengths, i64 %axis
  %length = load i64, ptr %lp
  %wanted = call i64 @evaluate(ptr %code, ptr %dims)
  %equal = icmp eq i64 %length, %wanted
  br i1 %equal, label %check_fits, label %no
check_fits:
  %k1 = add i64 %k, 1
  br label %checks_loop
given_or_not:
  %given = slot GIVEN i64
  %made_here = icmp eq i64 %given, 0
  br i1 %made_here, label %yes, label %outputs_given
outputs_given:
  %separate = call i1 @apart(ptr %record, ptr %args)
  ret i1 %separate
yes:
  ret i1 true
no:
  ret i1 false
}
"""
