"""Sixteen neighbouring cells of a row at once.

A loop over single cells becomes fast only if the compiler sees that it may work on vectors, and it often does not:
it fears that arrays overlap, that bounds are negative, or leaves short rows to a scalar remainder. Here a kernel says
itself what is done in vectors. LLVM turns the sixteen lanes into whatever the machine has.

The last cells of a row of somebody else's (`end`) are read and written under a mask, so nothing behind it is touched.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

WIDTH = 16
INDEX = ir.IntType(64)
BIT = ir.IntType(1)


class Lanes(types.Type):
    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.VectorType(dmm.lookup(fe_type.dtype).get_value_type(), WIDTH))


MASK = Lanes(types.boolean)
WHOLE = Lanes(types.int32)


@intrinsic
def spread(context, value):
    """The same number in every lane."""

    def generate(context, builder, signature, arguments):
        return _spread(builder, arguments[0])

    return Lanes(value)(value), generate


@intrinsic
def load(context, row, start):
    def generate(context, builder, signature, arguments):
        pointer, align = _pointer(context, builder, signature.args[0], arguments)
        return builder.load(pointer, align=align)

    return Lanes(row.dtype)(row, start), generate


@intrinsic
def load_until(context, row, start, end, other):
    """The cells before `end`, and `other` in the lanes that would be behind them."""

    def generate(context, builder, signature, arguments):
        pointer, align = _pointer(context, builder, signature.args[0], arguments)
        other = _spread(builder, context.cast(builder, arguments[3], signature.args[3], row.dtype))
        mask = _before(builder, arguments[1], arguments[2])
        return _call(builder, "masked.load", ".p0", other.type, pointer, ir.IntType(32)(align), mask, other)

    return Lanes(row.dtype)(row, start, end, other), generate


@intrinsic
def store(context, row, start, lanes):
    def generate(context, builder, signature, arguments):
        pointer, align = _pointer(context, builder, signature.args[0], arguments)
        builder.store(arguments[2], pointer, align=align)
        return context.get_dummy_value()

    return types.void(row, start, lanes), generate


@intrinsic
def store_until(context, row, start, end, lanes):
    """The lanes that lie before `end`."""

    def generate(context, builder, signature, arguments):
        pointer, align = _pointer(context, builder, signature.args[0], arguments)
        values, mask = arguments[3], _before(builder, arguments[1], arguments[2])
        _call(builder, "masked.store", ".p0", ir.VoidType(), values, pointer, ir.IntType(32)(align), mask)
        return context.get_dummy_value()

    return types.void(row, start, end, lanes), generate


@intrinsic
def lower(context, before, here, by):
    """What stands `by` lanes (a constant) lower: the neighbours below, the first of them from the lanes before."""
    if not isinstance(by, types.IntegerLiteral):
        return None
    order = [WIDTH - by.literal_value + n for n in range(WIDTH)]
    return _shuffle(before, here, by, order)


@intrinsic
def higher(context, here, after, by):
    """What stands `by` lanes (a constant) higher, the last of them from the lanes after."""
    if not isinstance(by, types.IntegerLiteral):
        return None
    return _shuffle(here, after, by, [by.literal_value + n for n in range(WIDTH)])


@intrinsic
def where(context, mask, a, b):
    def generate(context, builder, signature, arguments):
        return builder.select(*arguments)

    return a(mask, a, b), generate


@intrinsic
def multiply_add(context, a, b, c):
    """a b + c, rounded once."""

    def generate(context, builder, signature, arguments):
        return _call(builder, "fma", "", arguments[0].type, *arguments)

    return c(a, b, c), generate


@intrinsic
def nearest(context, lanes):
    """The nearest whole numbers, ties to even."""

    def generate(context, builder, signature, arguments):
        return _call(builder, "rint", "", arguments[0].type, arguments[0])

    return lanes(lanes), generate


@intrinsic
def whole(context, lanes):
    """float32 to int32, cut off."""

    def generate(context, builder, signature, arguments):
        return builder.fptosi(arguments[0], ir.VectorType(ir.IntType(32), WIDTH))

    return WHOLE(lanes), generate


@intrinsic
def real(context, lanes):
    """int32 to float32."""

    def generate(context, builder, signature, arguments):
        return builder.sitofp(arguments[0], ir.VectorType(ir.FloatType(), WIDTH))

    return Lanes(types.float32)(lanes), generate


@intrinsic
def double(context, lanes):
    """float32 to float64."""

    def generate(context, builder, signature, arguments):
        return builder.fpext(arguments[0], ir.VectorType(ir.DoubleType(), WIDTH))

    return Lanes(types.float64)(lanes), generate


@intrinsic
def to_bits(context, lanes):
    integer = types.int32 if lanes.dtype == types.float32 else types.int64

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.VectorType(ir.IntType(integer.bitwidth), WIDTH))

    return Lanes(integer)(lanes), generate


@intrinsic
def from_bits(context, lanes):
    """Whole numbers to the real numbers of the same bits."""
    number = types.float32 if lanes.dtype == types.int32 else types.float64

    def generate(context, builder, signature, arguments):
        vector = ir.VectorType(ir.FloatType() if number == types.float32 else ir.DoubleType(), WIDTH)
        return builder.bitcast(arguments[0], vector)

    return Lanes(number)(lanes), generate


@intrinsic
def packed(context, mask):
    """One bit for every lane, the first lane's the lowest."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(WIDTH))

    return types.uint16(mask), generate


def _lanewise(name: str, result=None):
    """An operation of two lanes, by the name of LLVM's instruction."""

    @intrinsic
    def operation(context, a, b):
        def generate(context, builder, signature, arguments):
            return getattr(builder, name)(*arguments)

        return (result or a)(a, b), generate

    return operation


def _comparison(sign: str):
    @intrinsic
    def operation(context, a, b):
        def generate(context, builder, signature, arguments):
            return _compare(builder, sign, a, arguments)

        return MASK(a, b), generate

    return operation


def _define(python_operator, for_floats, for_integers=None) -> None:
    """Python's operator between lanes of one type, or lanes and a number."""

    @overload(python_operator, jit_options={"forceinline": True, "_nrt": False})
    def lanes_operator(a, b):
        if not isinstance(a, Lanes) and not isinstance(b, Lanes):
            return None
        dtype = (a if isinstance(a, Lanes) else b).dtype
        operation = for_floats if isinstance(dtype, types.Float) else for_integers
        if operation is None:
            return None
        if a == b:
            return lambda a, b: operation(a, b)
        if isinstance(a, Lanes):
            return lambda a, b: operation(a, spread(dtype(b)))
        return lambda a, b: operation(spread(dtype(a)), b)


_define(operator.add, _lanewise("fadd"), _lanewise("add"))
_define(operator.sub, _lanewise("fsub"), _lanewise("sub"))
_define(operator.mul, _lanewise("fmul"))
_define(operator.truediv, _lanewise("fdiv"))
_define(operator.and_, None, _lanewise("and_"))
_define(operator.or_, None, _lanewise("or_"))
_define(operator.lshift, None, _lanewise("shl"))
_define(operator.rshift, None, _lanewise("ashr"))
_define(operator.gt, _comparison(">"), _comparison(">"))
_define(operator.ge, _comparison(">="), _comparison(">="))
_define(operator.lt, _comparison("<"), _comparison("<"))


def _chosen(sign: str):
    """Of every two lanes the one that compares so with the other."""

    @intrinsic
    def operation(context, a, b):
        def generate(context, builder, signature, arguments):
            return builder.select(_compare(builder, sign, a, arguments), *arguments)

        return a(a, b), generate

    return operation


largest, smallest = _chosen(">"), _chosen("<")


@intrinsic
def magnitude(context, lanes):
    """The bits of a number without its sign: they order numbers by size, infinity beyond all, NaN beyond infinity."""
    integer = types.int32 if lanes.dtype == types.float32 else types.int64

    def generate(context, builder, signature, arguments):
        vector = ir.VectorType(ir.IntType(integer.bitwidth), WIDTH)
        mask = ir.Constant(vector, [2 ** (integer.bitwidth - 1) - 1] * WIDTH)
        return builder.and_(builder.bitcast(arguments[0], vector), mask)

    return Lanes(integer)(lanes), generate


@intrinsic
def total(context, lanes):
    """The sum of the lanes, pair by pair."""

    def generate(context, builder, signature, arguments):
        (rest,) = arguments
        while rest.type.count > 1:
            half = rest.type.count // 2
            order = ir.VectorType(ir.IntType(32), half)
            halves = [
                builder.shuffle_vector(rest, rest, ir.Constant(order, list(range(start, start + half))))
                for start in (0, half)
            ]
            rest = builder.fadd(*halves)
        return builder.extract_element(rest, ir.IntType(32)(0))

    return lanes.dtype(lanes), generate


@intrinsic
def top(context, lanes):
    """The largest lane."""

    def generate(context, builder, signature, arguments):
        (vector,) = arguments
        name = f"llvm.vector.reduce.fmax.v{WIDTH}f{lanes.dtype.bitwidth}"
        function = ir.FunctionType(vector.type.element, [vector.type])
        return builder.call(cgutils.get_or_insert_function(builder.module, function, name), arguments)

    return lanes.dtype(lanes), generate


def _compare(builder, sign, kind, arguments):
    compare = builder.fcmp_ordered if isinstance(kind.dtype, types.Float) else builder.icmp_signed
    return compare(sign, *arguments)


def _pointer(context, builder, array_type, arguments):
    """To the lanes from arguments[1] on of the row arguments[0]; cells are aligned, lanes need not be."""
    if array_type.layout != "C":
        raise TypeError(f"lanes lie side by side in a row, got {array_type}")
    array = context.make_array(array_type)(context, builder, arguments[0])
    vector = ir.VectorType(context.get_value_type(array_type.dtype), WIDTH)
    cell = builder.gep(array.data, [arguments[1]])
    return builder.bitcast(cell, vector.as_pointer()), array_type.dtype.bitwidth // 8


def _call(builder, name, suffix, result, *arguments):
    """LLVM's own function `name` for the lanes that are its result, or else its first argument."""
    lanes = result if isinstance(result, ir.VectorType) else arguments[0].type
    letter = "f" if isinstance(lanes.element, ir.FloatType | ir.DoubleType) else "i"
    bits = {ir.FloatType(): 32, ir.DoubleType(): 64}.get(lanes.element) or lanes.element.width
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(
        builder.module, signature, f"llvm.{name}.v{WIDTH}{letter}{bits}{suffix}"
    )
    return builder.call(function, arguments)


def _spread(builder, value):
    vector = ir.VectorType(value.type, WIDTH)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
    zero = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zero)


def _before(builder, start, end):
    """Which of the lanes from `start` on lie before `end`."""
    left = builder.trunc(builder.sub(end, start), ir.IntType(32))
    order = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), list(range(WIDTH)))
    return builder.icmp_signed("<", order, _spread(builder, left))


def _shuffle(first, second, by, order):
    def generate(context, builder, signature, arguments):
        # As whole numbers: LLVM then shifts the lanes by one instruction where it can.
        lanes = arguments[0].type
        integers = ir.VectorType(ir.IntType(first.dtype.bitwidth), WIDTH)
        a, b = (builder.bitcast(argument, integers) for argument in arguments[:2])
        chosen = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), order)
        return builder.bitcast(builder.shuffle_vector(a, b, chosen), lanes)

    return first(first, second, by), generate
