"""Changes to the text of golden files that make it wrong: (model, name, old, new); the whole text
where `old` is empty.
"""

from __future__ import annotations

_A, _B = "dim a dim b", " + ".join(f"a{k}" for k in range(70))
_MANY = " ".join(f"dim a{k}" for k in range(70))
_POWER = "*".join(["(a + b)"] * 50)
_SLICE = "starts=(1, 0), steps=(1, 1), shape=(<n - 2>, 40)"


def _graph(body: str) -> str:
    return 'graph "g" {\n' + body + "\n}"


def _typed(dims: str, shape: str) -> str:
    return _graph(f'{dims} input %x "x" : f32[{shape}]')


def _op(text: str) -> str:
    """One op on x: f32[4, 6] and i: i64[3]."""
    return _graph(f'input %x "x" : f32[4, 6] input %i "i" : i64[3]\n%0 = {text}')


_WHOLE: dict[str, str] = {
    "empty": " ",
    "no graph": "kernel {}",
    "open": 'graph "g" {',
    "two": 'graph "g" {} graph "h" {}',
    "a surrogate": '\ud800graph "g" {}',
    "half a character in a string": 'graph "\\ud800" {}',
    "an open string": 'graph "g',
    "a bad escape": 'graph "\\x41" {}',
    "a control character": 'graph "a\x01b" {}',
    "an unknown sign": _graph("?"),
    "a long name": f'graph "{"x" * 5000}" {{}}',
    "a long label": _graph(f'input %{"x" * 5000} "x" : f32[]'),
    "parentheses": _typed("dim a", "(" * 1000 + "a" + ")" * 1000),
    "tuples": _op("reshape(%x) {shape=" + "(" * 1000),
    "graphs": _graph('%0 = with_gradient() {backward=graph "h" {' * 100),
    "a long number": _typed("", "9" * 5000),
    "a large size": _typed("", "9223372036854775808"),
    "a large tensor": _typed("", "4294967296, 4294967296"),
    "a large tensor without elements": _typed("", "0, 4294967296, 4294967296"),
    "a large product": _typed("dim a", "4294967296*4294967296*a"),
    "a negative size": _typed("", "-3"),
    "rank": _typed("", ", ".join("1" * 100)),
    "an unknown dim": _typed("dim a", "b"),
    "a power of a sum": _typed(_A, _POWER),
    "a product of sums": _typed(_MANY, f"({_B})*({_B})"),
    "elements of many terms": _typed(_A, ", ".join(["a + b"] * 40)),
    "quotients in quotients": _typed(_A, "a" + " // b" * 40),
    "many factors": _typed("dim a", "*".join("a" * 200)),
    "a division by zero": _typed("dim a", "a // 0"),
    "a division by a negative": _typed("dim a", "a // -2"),
    "a long dim": _graph(f"dim {'n' * 200}"),
    "many dims": _graph(" ".join(f"dim d{k}" for k in range(5000))),
    "a dim without sizes": _graph("dim n min=5 max=4"),
    "a dim twice": _graph("dim n dim n min=1"),
    "a large bound": _graph(f"dim n max={1 << 63}"),
    "a fraction as bound": _graph("dim n min=1.5"),
    "an input twice": _graph('input %x "x" : f32[] input %y "x" : f32[]'),
    "a label twice": _graph('input %x "x" : f32[] input %x "y" : f32[]'),
    "an unknown op": _op("exec(%x) : f32[4, 6]"),
    "a placeholder as op": _op("placeholder() {name=none} : f32[]"),
    "permute twice": _op("permute_dims(%x) {axes=(0, 0)} : f32[4, 4]"),
    "permute beyond": _op("permute_dims(%x) {axes=(0, 2)} : f32[4, 6]"),
    "permute from the end": _op("permute_dims(%x) {axes=(-1, 0)} : f32[6, 4]"),
    "flip": _op("flip(%x) {axes=(2,)} : f32[4, 6]"),
    "roll": _op("roll(%x) {shift=(1, 2), axes=(0,)} : f32[4, 6]"),
    "broadcast": _op("broadcast_to(%x) {shape=(5, 6)} : f32[5, 6]"),
    "slice beyond": _op("slice(%x) {starts=(3, 0), steps=(1, 1), shape=(2, 6)} : f32[2, 6]"),
    "slice before": _op("slice(%x) {starts=(-1, 0), steps=(1, 1), shape=(2, 6)} : f32[2, 6]"),
    "slice of one dim": _op("slice(%x) {starts=(0,), steps=(1,), shape=(4,)} : f32[4]"),
    "slice without a step": _op(
        "slice(%x) {starts=(0, 0), steps=(0, 1), shape=(4, 6)} : f32[4, 6]"
    ),
    "slice by text": _op('slice(%x) {starts="00", steps=(1, 1), shape=(4, 6)} : f32[4, 6]'),
    "sum": _op("sum(%x) {axes=(1, 0), keepdims=false} : f32[]"),
    "sum by number": _op("sum(%x) {axes=1, keepdims=false} : f32[4]"),
    "sum by a flag": _op("sum(%x) {axes=(true,), keepdims=false} : f32[4]"),
    "keepdims": _op("sum(%x) {axes=(1,), keepdims=0} : f32[4]"),
    "softmax": _op("softmax(%x) {axis=2} : f32[4, 6]"),
    "concat from the end": _op("concat(%x, %x) {axis=-1} : f32[4, 12]"),
    "concat of nothing": _op("concat() {axis=0} : f32[0]"),
    "gather": _op("gather(%x, %i) {axes=(5,), position=0} : f32[3]"),
    "gather by floats": _op("gather(%x, %x) {axes=(0,), position=0} : f32[4, 6, 6]"),
    "scatter": _op('scatter(%x, %x, %i) {axes=(0,), position=0, mode="exec"} : f32[4, 6]'),
    "einsum of one": _op('einsum(%x, %x) {spec="ab->ab"} : f32[4, 6]'),
    "einsum of letters": _op('einsum(%x, %x) {spec="a1,a1->a"} : f32[4]'),
    "einsum of a large rank": _op('einsum(%x, %x) {spec="' + "ab" * 400 + ',ab->a"} : f32[4]'),
    "einsum diagonal": _op('einsum(%x, %x) {spec="aa,ab->a"} : f32[4]'),
    "full of a wrong value": _op("full() {value=0.5, shape=(4,), dtype=i32} : i32[4]"),
    "full beyond": _op("full() {value=300, shape=(4,), dtype=u8} : u8[4]"),
    "full of a large shape": _op(
        "full() {value=1.0, shape=(4294967296, 4294967296), dtype=f32}"
        " : f32[4294967296, 4294967296]"
    ),
    "iota": _op("iota() {shape=(4,), axis=1, dtype=i64} : i64[4]"),
    "iota of bool": _op("iota() {shape=(4,), axis=0, dtype=bool} : bool[4]"),
    "windows": _op("windows(%x) {axes=(0,), size=(2, 2), stride=(1,), dilation=(1,)} : f32[3]"),
    "windows of 0": _op(
        "windows(%x) {axes=(0,), size=(2,), stride=(0,), dilation=(1,)} : f32[3, 6, 2]"
    ),
    "conv": _op(
        "conv(%x, %x) {stride=(1,), low=(0,), high=(0,), dilation=(1,), input_dilation=(1,),"
        " groups=1} : f32[4]"
    ),
    "pad": _op("pad(%x) {low=(1,), high=(1,), interior=(0,), value=0.0} : f32[6, 6]"),
    "pad with text": _op(
        'pad(%x) {low=(1, 0), high=(1, 0), interior=(0, 0), value="a"} : f32[6, 6]'
    ),
    "reshape": _op("reshape(%x) {shape=(5, 5)} : f32[5, 5]"),
    "reshape to fewer": _op("reshape(%x) {shape=(-4, -6)} : f32[4, 6]"),
    "cast": _op("cast(%x) {dtype=32} : f32[4, 6]"),
    "sort": _op("sort(%x) {axis=7, descending=false} : f32[4, 6]"),
    "searchsorted": _op('searchsorted(%i, %i) {side="both"} : i64[3]'),
    "random bits": _op("random_bits(%x) {shape=(3,)} : u32[3]"),
    "backward": _op('with_gradient(%x, %x) {backward=graph "b" {}} : f32[4, 6]'),
    "backward of another type": _op(
        'with_gradient(%x, %i) {backward=graph "b" { input %g "g" : f32[4, 6] output "o" = %g }}'
        " : f32[4, 6]"
    ),
    "operands": _op("add(%x) : f32[4, 6]"),
    "operands of two dtypes": _op("add(%x, %i) : f32[4, 6]"),
    "shapes": _op("multiply(%x, %i) : f32[4, 6]"),
    "dtype of the operand": _op("exp(%i) : i64[3]"),
    "an operand below": _op("add(%x, %1) : f32[4, 6]"),
    "an attribute too many": _op("exp(%x) {axis=0} : f32[4, 6]"),
    "an attribute twice": _op("sum(%x) {axes=(0,), axes=(0,)} : f32[6]"),
    "attributes in another order": _op("sum(%x) {keepdims=false, axes=(0,)} : f32[6]"),
    "the result's type": _op("exp(%x) : f32[6, 4]"),
    "the result's dtype": _op("exp(%x) : f64[4, 6]"),
    "an unknown dtype": _op("exp(%x) : f8[4, 6]"),
    "a long literal": _op("constant() {value=const f32[2] [1.0, 2.0, 3.0]} : f32[2]"),
    "a short literal": _op("constant() {value=const f32[1000000000000] [1.0]} : f32[1]"),
    "a literal beyond": _op("constant() {value=const i8[1] [128]} : i8[1]"),
    "a fraction in a literal": _op("constant() {value=const i8[1] [1.5]} : i8[1]"),
    "a number as bool": _op("constant() {value=const bool[1] [1]} : bool[1]"),
    "a literal of a symbolic shape": _op("constant() {value=const f32[n] [1.0]} : f32[1]"),
    "a large literal": _op(f"constant() {{value=const i64[1] [{'9' * 40}]}} : i64[1]"),
    "base64": _op('constant() {value=const f32[1] "A"} : f32[1]'),
    "short base64": _op('constant() {value=const f32[2] "AAAAAA=="} : f32[2]'),
    "no base64": _op('constant() {value=const f32[0] ""} : f32[0]'),
    "a number as constant": _op("constant() {value=1.0} : f32[]"),
    "an output twice": _graph('input %x "x" : f32[] output "o" = %x output "o" = %x'),
    "an update of an input": _graph('input %x "x" : f32[] update %x = %x'),
    "a variable of a number": _graph("variable %w trainable=true = 1.0 : f32[]"),
    "trainable": _graph("variable %w trainable=1 = const f32[] [1.0] : f32[]"),
    "a name twice": _graph('input %x "x" : f32[] name "y" input %z "z" : f32[] name "y"'),
}
_CHANGED: tuple[tuple[str, str, str, str], ...] = (
    ("inference", "another digest", "@9af23fd7", "@00000000"),
    ("inference", "a short digest", "@9af23fd7", "@"),
    ("inference", "another type of a digest", "const f32[8, 6] @", "const f32[6, 8] @"),
    (
        "inference",
        "a tensor that is not used",
        "%3 = gather",
        "%x3 = exp(%2) : f64[40]\n%3 = gather",
    ),
    ("inference", "a missing output", '"halves" = %halves', '"halves" = %halve'),
    ("inference", "a size", "shape=(<n - 2>, 8, 5)", "shape=(<n - 3>, 8, 5)"),
    ("inference", "bounds", "multiple_of=4", "multiple_of=0"),
    ("inference", "a slice", _SLICE, "starts=(1, 0), steps=(1, 1), shape=(<n - 2>, 41)"),
    ("inference", "a word", "tanh(", "tanhh("),
    ("inference", "a brace", "{axes=(1,)", "axes=(1,)"),
    ("training", "an update twice", "update %b = %68", "update %w = %55"),
    ("training", "an update of another type", "update %b = %68", "update %b = %loss"),
    ("training", "a missing update", "update %b = %68", "update %b"),
    ("training", "inside", '"output_0" = %output_0', '"output_0" = %loss'),
    ("training", "a graph inside without output", 'output "output_0" = %output_0\n', ""),
    ("training", "axis", "{axis=1}", "{axis=-1}"),
)
TEXTS: tuple[tuple[str, str, str, str], ...] = (
    *(("inference", name, "", text) for name, text in _WHOLE.items()),
    *_CHANGED,
)
