"""How the pools share out the indices of a kernel (runtime, floor 7): LLVM text for both of them.

A caller says how long a chunk is at most. Cut at just that length, 18 indices in chunks of two are
nine chunks, and one of two threads works for ten indices. So there are as many chunks for each
thread, whose lengths differ by one; the longer ones come first.
"""

SHARES_TEXT = """
; The number of chunks of [0, n), n > 0: none longer than `most`, and as many for each thread.
define internal i64 @graphc.shares(i64 %n, i64 %most, i64 %threads) nounwind {
  %n1 = sub i64 %n, 1
  %whole = udiv i64 %n1, %most
  %chunks = add i64 %whole, 1
  %rounds1 = udiv i64 %whole, %threads
  %rounds = add i64 %rounds1, 1
  %even = mul i64 %rounds, %threads
  %few = icmp ult i64 %chunks, %threads
  %more = icmp ugt i64 %even, %n
  %keep = or i1 %few, %more
  %shares = select i1 %keep, i64 %chunks, i64 %even
  ret i64 %shares
}

; Where the chunk of an index begins: `longer` chunks have one more than `length`.
define internal i64 @graphc.share(i64 %index, i64 %length, i64 %longer) nounwind {
  %before = mul i64 %index, %length
  %early = icmp ult i64 %index, %longer
  %more = select i1 %early, i64 %index, i64 %longer
  %begin = add i64 %before, %more
  ret i64 %begin
}
"""
