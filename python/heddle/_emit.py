"""Traced expressions in the languages of the compiler.

A mask becomes an expression of the pattern algebra (for `holds`), a score the MLIR text
of a score region: `arith`, `math` and `attn.load` on f32, index and i1.
"""

from __future__ import annotations

import builtins
import math
import struct
from collections.abc import Callable
from typing import Any

from . import _core
from ._scalars import Traced, _cast
from ._trace import Slot, Trace

# A mask as an expression of the pattern algebra


def to_expr(root: Traced, number: Callable[[Any], builtins.int] = lambda slot: slot.n) -> _core.Expr:
    """The expression for `holds`; `number` gives the operand number of what a leaf holds."""
    memo: dict[builtins.int, _core.Expr] = {}
    E = _core.Expr

    def visit(node: Traced) -> _core.Expr:
        done = memo.get(id(node))
        if done is None:
            done = memo[id(node)] = build(node)
        return done

    def build(node: Traced) -> _core.Expr:
        op = node.op
        if op == "const":
            if node.type == "float":
                return E.number(node.value)
            if node.type == "bool":
                zero = E.integer(0)
                return E.make("eq" if node.value else "ne", [zero, zero])
            return E.integer(node.value)
        if op == "sym":
            return E.symbol(node.value)
        if op == "scalar":
            if node.type != "int":
                raise TypeError("expected an integer hd.scalar in a mask function, but got a float")
            return E.scalar(number(node.value))
        args = [visit(a) for a in node.args]
        if op == "load":
            return E.load(number(node.value), args, node.type)
        if op == "to_float":  # expressions compute in doubles
            return args[0]
        if op == "to_int":
            x, zero = args[0], E.integer(0)
            below = E.make("lt", [x, zero])
            up = E.make("neg", [E.make("floor", [E.make("neg", [x])])])
            return E.make("select", [below, up, E.make("floor", [x])])
        return E.make(op, args)

    return visit(root)


# A score as MLIR text

_BINARY = {
    ("add", "int"): "arith.addi", ("sub", "int"): "arith.subi", ("mul", "int"): "arith.muli",
    ("floordiv", "int"): "arith.floordivsi", ("max", "int"): "arith.maxsi", ("min", "int"): "arith.minsi",
    ("and", "int"): "arith.andi", ("or", "int"): "arith.ori", ("xor", "int"): "arith.xori",
    ("and", "bool"): "arith.andi", ("or", "bool"): "arith.ori", ("xor", "bool"): "arith.xori",
    ("shl", "int"): "arith.shli", ("shr", "int"): "arith.shrsi",
    ("add", "float"): "arith.addf", ("sub", "float"): "arith.subf", ("mul", "float"): "arith.mulf",
    ("div", "float"): "arith.divf", ("max", "float"): "arith.maximumf", ("min", "float"): "arith.minimumf",
}  # fmt: skip
_UNARY = {
    "tanh": "math.tanh", "exp": "math.exp", "exp2": "math.exp2", "log": "math.log", "sqrt": "math.sqrt",
    "floor": "math.floor", "erf": "math.erf", "sin": "math.sin", "cos": "math.cos",
}  # fmt: skip
_CMPI = {"lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge", "eq": "eq", "ne": "ne"}
_CMPF = {"lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "eq": "oeq", "ne": "une"}
_MLIR = {"int": "index", "float": "f32", "bool": "i1"}


def float_text(x: builtins.float) -> str:
    """An f32 literal of MLIR; infinities and NaN as bits."""
    if math.isnan(x):
        return "0x7FC00000"
    try:
        (rounded,) = struct.unpack("f", struct.pack("f", x))
    except OverflowError:
        rounded = math.copysign(math.inf, x)
    if math.isinf(rounded):
        return "0x7F800000" if rounded > 0 else "0xFF800000"
    text = next(t for t in (f"{rounded:.{digits}g}" for digits in range(1, 10)) if _round_trips(t, rounded))
    mantissa, _, exponent = text.partition("e")
    mantissa = mantissa if "." in mantissa else mantissa + ".0"
    return f"{mantissa}e{exponent}" if exponent else mantissa


def _round_trips(text: str, x: builtins.float) -> builtins.bool:
    return struct.unpack("f", struct.pack("f", builtins.float(text)))[0] == x


class _Emitter:
    """Writes the body of one score region."""

    def __init__(self, capture: Callable[[Slot], tuple[str, str]], prefix: str) -> None:
        self.capture = capture
        self.prefix = prefix
        self.lines: list[str] = []
        self.memo: dict[Any, str] = {}
        self.ids: dict[builtins.int, str] = {}

    def line(self, text: str, type: str) -> str:
        key = (text, type)
        if key not in self.memo:
            name = f"%{self.prefix}{len(self.memo)}"
            self.memo[key] = name
            self.lines.append(f"{name} = {text}")
        return self.memo[key]

    def visit(self, node: Traced) -> str:
        done = self.ids.get(id(node))
        if done is None:
            done = self.ids[id(node)] = self.build(node)
        return done

    def constant(self, value: Any, type: str) -> str:
        if type == "bool":
            return self.line(f"arith.constant {'true' if value else 'false'}", "i1")
        if type == "int":
            return self.line(f"arith.constant {value} : index", "index")
        return self.line(f"arith.constant {float_text(value)} : f32", "f32")

    def load(self, node: Traced) -> str:
        name, type = self.capture(node.value)
        at = ", ".join(self.visit(a) for a in node.args)
        element = type[type.rindex("x") + 1 : -1] if "x" in type else type[7:-1]
        value = self.line(f"attn.load {name}[{at}] : {type}", element)
        if node.type == "int":
            return self.line(f"arith.index_cast {value} : {element} to index", "index")
        if element in ("f16", "bf16"):
            return self.line(f"arith.extf {value} : {element} to f32", "f32")
        return value

    def build(self, node: Traced) -> str:
        op, kind = node.op, node.type
        if op == "const":
            return self.constant(node.value, kind)
        if op == "sym":
            return f"%{node.value}"
        if op == "dot":
            return f"%s{node.value or ''}"
        if op == "scalar":
            return self.capture(node.value)[0]
        if op == "load":
            return self.load(node)
        args = [self.visit(a) for a in node.args]
        type = _MLIR[kind]
        if (op, kind) in _BINARY:
            return self.line(f"{_BINARY[op, kind]} {args[0]}, {args[1]} : {type}", type)
        if op in _UNARY:
            return self.line(f"{_UNARY[op]} {args[0]} : f32", "f32")
        return self.special(op, kind, node, args)

    def special(self, op: str, kind: str, node: Traced, args: list[str]) -> str:
        x = args[0]
        if op in _CMPI:
            if node.args[0].type == "float":
                return self.line(f"arith.cmpf {_CMPF[op]}, {x}, {args[1]} : f32", "i1")
            return self.line(f"arith.cmpi {_CMPI[op]}, {x}, {args[1]} : index", "i1")
        if op == "select":
            return self.line(f"arith.select {x}, {args[1]}, {args[2]} : {_MLIR[kind]}", _MLIR[kind])
        if op == "mod":  # the floor modulus
            quotient = self.line(f"arith.floordivsi {x}, {args[1]} : index", "index")
            product = self.line(f"arith.muli {quotient}, {args[1]} : index", "index")
            rest = self.line(f"arith.subi {x}, {product} : index", "index")
            if node.args[1].op == "const":
                return rest
            zero = self.constant(0, "int")
            undefined = self.line(f"arith.cmpi eq, {args[1]}, {zero} : index", "i1")
            return self.line(f"arith.select {undefined}, {zero}, {rest} : index", "index")
        if op == "neg" and kind == "float":
            return self.line(f"arith.negf {x} : f32", "f32")
        if op == "neg":
            return self.line(f"arith.subi {self.constant(0, 'int')}, {x} : index", "index")
        if op == "abs" and kind == "float":
            return self.line(f"math.absf {x} : f32", "f32")
        if op == "abs":
            minus = self.line(f"arith.subi {self.constant(0, 'int')}, {x} : index", "index")
            return self.line(f"arith.maxsi {x}, {minus} : index", "index")
        if op == "not":
            return self.line(f"arith.xori {x}, {self.constant(True, 'bool')} : i1", "i1")
        if op == "sigmoid":
            grown = self.line(f"math.exp {self.line(f'arith.negf {x} : f32', 'f32')} : f32", "f32")
            one = self.constant(1.0, "float")
            below = self.line(f"arith.addf {grown}, {one} : f32", "f32")
            return self.line(f"arith.divf {one}, {below} : f32", "f32")
        if op == "to_float":
            wide = self.line(f"arith.index_cast {x} : index to i64", "i64")
            return self.line(f"arith.sitofp {wide} : i64 to f32", "f32")
        if op == "to_int":
            wide = self.line(f"arith.fptosi {x} : f32 to i64", "i64")
            return self.line(f"arith.index_cast {wide} : i64 to index", "index")
        raise TypeError(f"expected an operation that scores know, but got {op}")


def element_lines(root: Traced, scalar: Callable[[Any], str]) -> tuple[list[str], str]:
    """The lines that compute one element of glue from `%s`, `%s1`, ..., and the name of the f32 that they give."""
    emitter = _Emitter(lambda x: (scalar(x), ""), "t")
    value = emitter.visit(_cast(root, "float"))
    return emitter.lines, value


def score_lines(trace: Trace, capture: Callable[[Slot], tuple[str, str]], prefix: str = "t") -> list[str]:
    """The lines of the score region; `capture` gives the name and type of a captured operand."""
    emitter = _Emitter(capture, prefix)
    root = _cast(trace.root, "float") if trace.root.type != "bool" else None
    if root is None:
        raise TypeError("expected a score function that returns a number, but got a condition; use where=")
    emitter.lines.append(f"attn.yield {emitter.visit(root)} : f32")
    return emitter.lines
