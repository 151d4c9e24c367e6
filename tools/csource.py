"""Reads facts off C source: macros as numbers, initialisers as lists and dictionaries. Knows just enough C for QEMU's tables.

Used by the generators in this folder; nothing of it is part of vcpuid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])\'|0[xX][0-9a-fA-F]+|\d+|[A-Za-z_]\w*|<<|>>|\.\.\.|[^\s]')
_CASTS = {"uint32_t", "uint64_t", "uint8_t", "int64_t", "unsigned", "int", "char"}
_CONSTANTS = {"true": 1, "false": 0, "NULL": None, "KiB": 1024, "MiB": 1 << 20, "GiB": 1 << 30, "UINT32_MAX": 0xFFFFFFFF}


def strip(text: str) -> str:
    """Drop comments and join continued lines."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S).replace("\\\n", " ")


class Source:
    """A few C files read together; `symbol` gives a macro or an enumerator as a number, `table` an initialiser."""

    def __init__(self, paths: list[Path], keep: Callable[[str], str] = str) -> None:
        self.text = keep("\n".join(strip(path.read_text(encoding="utf-8")) for path in paths if path.exists()))
        self.macros: dict[str, str] = {}
        for name, body in re.findall(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+([^\n]+)$", self.text, flags=re.M):
            self.macros.setdefault(name, body)
        self.known: dict[str, Any] = dict(_CONSTANTS)
        for body in re.findall(r"\benum\b[^{;]*\{([^}]*)\}", self.text):
            self._enumerate(body)

    def _enumerate(self, body: str) -> None:
        value: Any = -1
        for part in body.split(","):
            name, _, given = part.partition("=")
            if not re.fullmatch(r"\s*\w+\s*", name):
                continue
            value = self.evaluate(given) if given.strip() else value + 1
            if not isinstance(value, int):
                return  # written with names of other files: of these and of those that count on from them no table asks
            self.known.setdefault(name.strip(), value)

    def enumerators(self, last: str) -> list[str]:
        """Return the names of the enumeration that ends with `last`, in order."""
        for body in re.findall(r"\benum\b[^{;]*\{([^}]*)\}", self.text):
            names = [part.partition("=")[0].strip() for part in body.split(",") if part.strip()]
            if names and names[-1] == last:
                return names[:-1]
        raise KeyError(last)

    def symbol(self, name: str) -> Any:
        """Return the value of a macro or an enumerator; an unknown name is returned as it is."""
        if name not in self.known:
            self.known[name] = name
            if name in self.macros:
                self.known[name] = self.evaluate(self.macros[name])
        return self.known[name]

    def evaluate(self, text: str) -> Any:
        """Evaluate an expression."""
        return self._value(_TOKEN.findall(text))

    def table(self, name: str) -> Any:
        """Return the initialiser of the variable `name`."""
        match = re.search(rf"\b{re.escape(name)}\s*(?:\[[^\]]*\])?\s*=\s*\{{", self.text)
        if match is None:
            raise KeyError(name)
        tokens = self._from(match.end() - 1)
        return self._braces(tokens)

    def variables(self, kind: str) -> Iterator[str]:
        """Yield the names of the variables of a type that have an initialiser."""
        yield from re.findall(rf"^(?:static\s+)?(?:const\s+)?{kind}\s+(\w+)(?:\[[^\]]*\])?\s*=\s*\{{", self.text, flags=re.M)

    def _from(self, start: int) -> list[str]:
        depth, tokens = 0, []
        for match in _TOKEN.finditer(self.text, start):
            tokens.append(match[0])
            depth += {"{": 1, "}": -1}.get(match[0], 0)
            if depth == 0:
                break
        return tokens

    def _braces(self, tokens: list[str]) -> Any:
        """Read `{…}`: a dictionary where the items have designators, else a list."""
        listed: list[Any] = []
        named: dict[Any, Any] = {}
        for item in _split(tokens[1:-1]):
            if item[0] == "." and len(item) > 2 and item[2] == "=":
                named[item[1]] = self._value(item[3:])
            elif item[0] == ".":  # .a.b = value, .a[b] = value
                named.setdefault(item[1], {}).update(self._value(["{", *item[2:], "}"]))
            elif item[0] == "[":
                end = item.index("]")
                index = self._value(item[1:end])
                named[index] = self._value(item[end + 2 :])
                if isinstance(index, int):
                    listed += [None] * (index + 1 - len(listed))
                    listed[index] = named[index]
            else:
                listed.append(self._value(item))
        return named or listed

    def _value(self, tokens: list[str]) -> Any:
        while tokens and (tokens[0] == "&" and (len(tokens) == 2 or tokens[1] == "(")):
            tokens = tokens[1:]
        if tokens and tokens[0] == "(" and "{" in tokens:  # compound literal: (Type) {…}
            tokens = tokens[tokens.index("{") :]
        if tokens and tokens[0] == "{":
            return self._braces(tokens)
        if tokens and tokens[0].startswith('"'):
            return "".join(_string(t) if t.startswith('"') else str(self.symbol(t)) for t in tokens)
        return self._arithmetic(tokens)

    def _arithmetic(self, tokens: list[str]) -> Any:
        out: list[str] = []
        position = 0
        while position < len(tokens):
            token = tokens[position]
            if token in ("BIT", "BIT_ULL", "BIT_MASK"):
                out.append("1<<")
            elif token == "MAKE_64BIT_MASK":
                end = tokens.index(")", position)
                first, _, length = "".join(tokens[position + 2 : end]).partition(",")
                out.append(f"((1<<{length})-1<<{first})")
                position = end
            elif re.match(r"\d", token):
                number, suffix = int(token, 0), ""
                while position + 1 < len(tokens) and re.fullmatch(r"[uUlL]+", tokens[position + 1]):
                    position += 1
                    suffix += tokens[position]
                if suffix in ("u", "U") and out[-1:] == ["~"]:  # an unsigned int: its complement has 32 bits
                    out.pop()
                    number = ~number & 0xFFFFFFFF
                out.append(str(number))
            elif re.match(r"[A-Za-z_]", token):
                if token in _CASTS and out and out[-1] == "(":
                    out.pop()
                    position += 1
                else:
                    value = self.symbol(token)
                    if not isinstance(value, int):
                        return value if len(tokens) == 1 else " ".join(tokens)
                    out.append(str(value))
            else:
                out.append(token)
            position += 1
        expression = "".join(out)
        if not re.fullmatch(r"[-\d+*<>|&~()]+", expression):
            return " ".join(tokens)
        value = eval(expression)  # digits and operators only, as checked above
        return value if value >= 0 else value & (1 << 64) - 1


def _string(token: str) -> str:
    return token[1:-1].replace('\\"', '"').replace("\\\\", "\\")


def _split(tokens: list[str]) -> Iterator[list[str]]:
    depth = 0
    item: list[str] = []
    for token in tokens:
        depth += {"{": 1, "(": 1, "[": 1, "}": -1, ")": -1, "]": -1}.get(token, 0)
        if token == "," and depth == 0:
            if item:
                yield item
            item = []
        else:
            item.append(token)
    if item:
        yield item
