"""Makes TOML documents in every style, and knows in which line each key stands."""

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from controller.toml_file.lines import Path

Node = Any
BARE = st.text("abcXYZ019_-", min_size=1, max_size=4)
ODD = st.text(" .=\"#[]{}\n\\é'", min_size=1, max_size=4)
SCALARS = (
    "1", "-0x1F".removeprefix("-"), "3.5e-2", "true", "1979-05-27 07:32:00Z", "07:32:00",
    '""', "''", '"a # b"', '"\\"]"', "'\\'", "'}, # \"'", '"""x"""', '"""\n# "x" = [\n"""',
    '"""a""""', '"""a\\"""b"""', "'''\n[t]\n'''", "'''a'''''", '"""\\\n  b"""',
)  # fmt: skip


@dataclass(frozen=True)
class Scalar:
    """A value as it is written."""

    text: str


names = st.one_of(BARE, BARE, ODD)
scalars = st.sampled_from(SCALARS).map(Scalar)


def tables(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[dict[str, Node]]:
    return st.dictionaries(names, inner, max_size=4)


nodes = st.recursive(
    scalars,
    lambda inner: st.one_of(tables(inner), st.lists(inner, max_size=3), st.lists(tables(inner), min_size=1, max_size=3)),
    max_leaves=12,
)  # fmt: skip


@dataclass
class Writer:
    """Writes a document; ``lines`` grows with the text."""

    draw: Any
    text: str = ""
    lines: dict[Path, int] = field(default_factory=dict)

    def add(self, text: str) -> None:
        self.text += text

    def note(self, path: Path) -> None:
        self.lines.setdefault(path, 1 + self.text.count("\n"))

    def maybe(self, *texts: str) -> None:
        self.add(self.draw(st.sampled_from(("", *texts))))

    def end_line(self) -> None:
        self.maybe(" # [x] = '''", "\t", "  ")
        self.add(self.draw(st.sampled_from(("\n", "\r\n", "\n\n", '\n# """\n', "\n  "))))

    def name(self, name: str) -> None:
        bare = name.isascii() and name.replace("-", "a").replace("_", "a").isalnum()
        ways = [json.dumps(name)]
        if bare:
            ways += [name, name, name]
        if "'" not in name and "\n" not in name:
            ways.append(f"'{name}'")
        self.add(self.draw(st.sampled_from(ways)))

    def names(self, names: list[str]) -> None:
        for number, name in enumerate(names):
            if number:
                self.add(self.draw(st.sampled_from((".", " . "))))
            self.name(name)

    def body(self, table: dict[str, Node], path: Path, header: list[str]) -> None:
        """The table's own pairs, and then the tables inside it, under headers of their own."""
        later = [key for key, node in table.items() if self.has_header(node)]
        for key, node in table.items():
            if key not in later:
                self.pairs([key], node, path)
        for key in later:
            self.headed(table[key], (*path, key), [*header, key])

    def has_header(self, node: Node) -> bool:
        if isinstance(node, dict):
            return bool(self.draw(st.booleans()))
        tables_only = isinstance(node, list) and node and all(isinstance(n, dict) for n in node)
        return bool(tables_only and self.draw(st.booleans()))

    def headed(self, node: Node, path: Path, header: list[str]) -> None:
        for number, table in enumerate(node if isinstance(node, list) else [node]):
            repeated = isinstance(node, list)
            self.maybe(" ", "\n")
            self.note(path)
            inside = (*path, number) if repeated else path
            self.note(inside)
            self.add("[[" if repeated else "[")
            self.maybe(" ")
            self.names(header)
            self.add("]]" if repeated else "]")
            self.end_line()
            self.body(table, inside, header)

    def pairs(self, keys: list[str], node: Node, path: Path) -> None:
        """One pair, or one for every leaf of a table, with dotted keys."""
        if isinstance(node, dict) and node and self.draw(st.booleans()):
            for key, inner in node.items():
                self.pairs([*keys, key], inner, path)
            return
        self.pair(keys, node, path)
        self.end_line()

    def pair(self, keys: list[str], node: Node, path: Path) -> None:
        for length in range(1, len(keys) + 1):
            self.note((*path, *keys[:length]))
        self.names(keys)
        self.add(self.draw(st.sampled_from(("=", " = "))))
        self.value(node, (*path, *keys))

    def value(self, node: Node, path: Path) -> None:
        if isinstance(node, Scalar):
            self.add(node.text)
        elif isinstance(node, dict):
            self.add("{")
            for number, (key, inner) in enumerate(node.items()):
                self.add(", " if number else " ")
                self.pair([key], inner, path)
            self.add(" }")
        else:
            self.list(node, path)

    def list(self, nodes: "list[Node]", path: Path) -> None:
        self.add("[")
        for number, inner in enumerate(nodes):
            self.fill()
            self.note((*path, number))
            self.value(inner, (*path, number))
            self.fill()
            self.add("," if number + 1 < len(nodes) else "")
        self.fill()
        self.add("]")

    def fill(self) -> None:
        self.maybe(" ", "\n", "\r\n\t", " # ], }\n", "\n#\n\n")


@st.composite
def documents(draw: Any) -> tuple[str, dict[Path, int]]:
    """A document, and the lines of all of its keys, tables and entries."""
    writer = Writer(draw)
    writer.maybe("\n", "# x\n\n")
    writer.body(draw(tables(nodes)), (), [])
    return writer.text, writer.lines
