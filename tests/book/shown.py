"""Numbers as they are shown to a reader, and whether a computed value agrees with what is shown."""

import ast
import builtins
import re
from dataclasses import dataclass
from fractions import Fraction

MINUS = "\N{MINUS SIGN}"
# Between groups of three digits: comma, no-break space, thin space, narrow no-break space, LaTeX's forms.
THOUSANDS = re.compile(r"(?<=\d)(?:,|\{,\}|\\,|\u00a0|\u2009|\u202f)(?=\d{3}(?!\d))")
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")

FRACTION = re.compile(r"(-?)(?:\\[dt]?frac\{(\d+)\}\{(\d+)\}|(\d+)/(\d+))")
PERCENT = re.compile(r"(-?\d+(?:\.(\d+))?)\s*(?:\\,)?\s*\\?%")
SCIENTIFIC = re.compile(r"(-?\d+(?:\.(\d+))?)\s*(?:e\+?|(?:×|\\times)\s*10\^?\{?)(-?\d+)\}?", flags=re.IGNORECASE)
DECIMAL = re.compile(r"-?\d+(?:\.(\d+))?")

# A value that came out of floating-point arithmetic may miss an integer or a fraction by this much.
ROUNDING_ERROR = Fraction(1, 10**12)
# Room for a float that sits on the border between two roundings, as a part of the last digit shown.
BORDER = Fraction(1, 10**9)


class NotANumber(ValueError):
    """What is shown cannot be read as a number."""


@dataclass(frozen=True)
class Shown:
    """The number that a text shows, and half a unit of its last digit; 0 where the text is exact."""

    value: Fraction
    half_a_unit: Fraction

    @property
    def is_exact(self) -> bool:
        return not self.half_a_unit


def read_shown(text: str) -> Shown:
    """Read a number as it is shown in prose.

    >>> for text in ["0.67", "−3", "12,582,912", "67 %", "3/4", "1.2e-3", "1.2 × 10⁻³"]:
    ...     print(text, "is", read_shown(text).value)
    0.67 is 67/100
    −3 is -3
    12,582,912 is 12582912
    67 % is 67/100
    3/4 is 3/4
    1.2e-3 is 3/2500
    1.2 × 10⁻³ is 3/2500
    >>> for text in [r"$\\tfrac{1}{2}$", "$-3$", r"$12{,}582{,}912$", r"$67\\,\\%$", r"$1.2 \\times 10^{-3}$"]:
    ...     print(text, "is", read_shown(text).value)
    $\\tfrac{1}{2}$ is 1/2
    $-3$ is -3
    $12{,}582{,}912$ is 12582912
    $67\\,\\%$ is 67/100
    $1.2 \\times 10^{-3}$ is 3/2500
    >>> read_shown("two")
    Traceback (most recent call last):
    tests.book.shown.NotANumber: 'two' is no number in a form that CONTRIBUTING.md lists
    """
    plain = text.strip().replace(MINUS, "-").translate(SUPERSCRIPTS)
    if plain.startswith("$") and plain.endswith("$"):
        plain = plain.strip("$").strip()
    plain = THOUSANDS.sub("", plain)
    if found := FRACTION.fullmatch(plain):
        return _fraction(*found.groups())
    if found := PERCENT.fullmatch(plain):
        return _rounded(found[1], found[2], exponent=-2)
    if found := SCIENTIFIC.fullmatch(plain):
        return _rounded(found[1], found[2], exponent=int(found[3]))
    if found := DECIMAL.fullmatch(plain):
        return _rounded(found[0], found[1], exponent=0) if found[1] else Shown(Fraction(plain), Fraction(0))
    raise NotANumber(f"{text!r} is no number in a form that CONTRIBUTING.md lists")


def _fraction(sign: str, *parts: str | None) -> Shown:
    numerator, denominator = (int(part) for part in parts if part is not None)
    if not denominator:
        raise NotANumber(f"{numerator}/{denominator} divides by zero")
    return Shown(Fraction(int(f"{sign}{numerator}"), denominator), Fraction(0))


def _rounded(mantissa: str, decimals: str | None, exponent: int) -> Shown:
    unit = Fraction(10) ** exponent
    return Shown(Fraction(mantissa) * unit, unit / 10 ** len(decimals or "") / 2)


def agrees(shown: Shown, value: Fraction | float) -> bool:
    """Whether a value, rounded to the digits shown, is what is shown.

    >>> agrees(read_shown("0.67"), 2 / 3), agrees(read_shown("0.66"), 2 / 3), agrees(read_shown("0.67"), 0.6751)
    (True, False, False)

    An integer is exact, and so is a fraction: a float may miss them by its own rounding error alone.

    >>> agrees(read_shown("1"), 0.99999994), agrees(read_shown("1"), 1 - 2**-53)
    (False, True)
    >>> agrees(read_shown("1/3"), 1 / 3), agrees(read_shown("1/3"), Fraction(333, 1000))
    (True, False)
    """
    is_float = isinstance(value, float)
    difference = abs(Fraction(value) - shown.value)
    if not shown.is_exact:
        return difference <= shown.half_a_unit * (1 + BORDER)
    return difference <= (ROUNDING_ERROR * max(1, abs(shown.value)) if is_float else 0)


def names_code(expression: str) -> bool:
    """Whether an expression uses a name of the chapter; what names nothing is bound to nothing.

    >>> names_code("weights[1, 0]"), names_code("0.67"), names_code("Fraction(1, 2)"), names_code("round(0.67)")
    (True, False, False, False)
    """
    names = {node.id for node in ast.walk(ast.parse(expression.strip(), mode="eval")) if isinstance(node, ast.Name)}
    return bool(names - set(dir(builtins)) - {"Fraction"})


# In the kernel


def encode_for_the_tests(value: object) -> str:
    """Turn a value into exact text that survives the way from the kernel to the tests; this source runs there.

    >>> [encode_for_the_tests(value) for value in (3, 0.1, Fraction(1, 2), True, "3")]
    ['3/1', '0x1.999999999999ap-4', '1/2', 'bool: True', "str: '3'"]
    """
    import numbers

    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # a scalar of NumPy or torch
        value = value.item()
    if isinstance(value, numbers.Rational) and not isinstance(value, bool):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, float):
        return value.hex()
    return f"{type(value).__name__}: {value!r:.80}"


def decode(text: str) -> Fraction | float:
    """The value that ``encode_for_the_tests`` wrote.

    >>> decode("3/1"), decode("0x1.999999999999ap-4")
    (Fraction(3, 1), 0.1)
    >>> decode("bool: True")
    Traceback (most recent call last):
    tests.book.shown.NotANumber: the code gives no number but bool: True
    """
    if re.fullmatch(r"-?\d+/\d+", text):
        return Fraction(text)
    if re.fullmatch(r"-?0x\S+", text):
        return float.fromhex(text)
    raise NotANumber(f"the code gives no number but {text}")


def why_wrong(shown_text: str, encoded: str) -> str | None:
    """Why a number in the prose is not what the code gives; None when it is.

    >>> why_wrong("0.67", encode_for_the_tests(2 / 3))
    >>> why_wrong("0.76", encode_for_the_tests(2 / 3))
    'the prose says 0.76, the code gives 0.6666666666666666'
    """
    try:
        shown, value = read_shown(shown_text), decode(encoded)
    except NotANumber as error:
        return str(error)
    return None if agrees(shown, value) else f"the prose says {shown_text}, the code gives {value}"
