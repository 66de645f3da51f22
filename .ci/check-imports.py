#!/usr/bin/env python3
"""usage: .ci/check-imports.py [--levels]

Checks the imports of every crate: the rooms of the daemon use only the rooms that docs/architecture.md allows, and no
files import each other in a circle. A module's own children may use what the module itself defines. Tests are left out.
--levels prints the level of each file: one above the highest that it imports.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
CRATES = {"trailgate_client": "client/src", "trailgate_ingest": "ingest/src", "trailgate": "src"}
BASE = {"human", "watched_file"}
# Room of the daemon: the rooms that it may use, besides itself and the base.
ROOMS = {
    "human": set(),
    "watched_file": set(),
    "policy": set(),
    "http": {"policy"},
    "ops": {"policy", "http"},
    "reject": {"policy", "http", "ops"},
    "proxy": {"policy", "http", "ops", "reject"},
    "config": {"policy", "http", "ops", "reject", "proxy"},
    "daemon": {"policy", "http", "ops", "reject", "proxy", "config"},
    "cli": {"policy", "http", "ops", "reject", "proxy", "config"},
    "main": {"cli", "config", "daemon", "ops", "policy", "http"},
    "lib": {"cli", "config", "daemon", "http", "ops", "policy", "proxy", "reject"},
}
# Crate: the crates of ours that it may use.
USES = {"trailgate_client": set(), "trailgate_ingest": {"trailgate_client"}, "trailgate": {"trailgate_client"}}


def main():
    errors, levels = [], []
    for crate, folder in CRATES.items():
        files = {module_of(path, ROOT / folder): path for path in sorted((ROOT / folder).rglob("*.rs")) if not is_test(path)}
        imports = {module: imports_of(path, module, files) for module, path in files.items()}
        for module, path in files.items():
            name = path.relative_to(ROOT)
            for other in foreign(path) - USES[crate] - {crate}:
                errors.append(f"{name}: uses the crate {other}")
            if crate == "trailgate":
                errors += [f"{name}: uses {'::'.join(it)}" for it in imports[module] if not may_use(module, it)]
        for circle in circles(imports):
            errors.append("circle: " + " -> ".join(str(files[module].relative_to(ROOT)) for module in circle))
        levels += [(level, str(files[module].relative_to(ROOT))) for module, level in levels_of(imports).items()]
    if sys.argv[1:] == ["--levels"]:
        for level, name in sorted(levels):
            print(level, name)
    for error in errors:
        print(error, file=sys.stderr)
    sys.exit(bool(errors))


def is_test(path):
    return path.name == "tests.rs" or "tests" in path.parts or "bin" in path.parts


def module_of(path, folder):
    parts = path.relative_to(folder).with_suffix("").parts
    return parts


def source(path):
    text = path.read_text()
    return re.sub(r"//[^\n]*", "", text.split("#[cfg(test)]\nmod tests")[0])


def foreign(path):
    return {name for name in re.findall(r"\btrailgate(?:_\w+)?(?=::)", source(path)) if name in CRATES}


def imports_of(path, module, files):
    """The modules that a file names, but for those around it."""
    found = set()
    for prefix, rest in paths(source(path)):
        if prefix not in ("crate", "super", "self"):
            # A child by its name, or a crate, which is looked for in vain.
            prefix, rest = "self", [prefix, *rest]
        base = () if prefix == "crate" else module[:-1] if prefix == "super" else module
        while rest[:1] == ["super"]:
            base, rest = base[:-1], rest[1:]
        target = longest(tuple(base) + tuple(rest), files)
        is_ancestor = target is not None and target == module[: len(target)]
        if target is not None and not is_ancestor:
            found.add(target)
    return found


def paths(text):
    for statement in re.findall(r"\buse ([^;]+);", text):
        yield from expand(re.sub(r"\s+", "", statement))
    for inline in re.findall(r"\b((?:crate|super)(?:::\w+)+)", re.sub(r"\buse [^;]+;", "", text)):
        yield from expand(inline)


def expand(path):
    head, brace, rest = path.partition("{")
    if not brace:
        parts = re.sub(r"\bas\w+$", "", head).split("::")
        yield parts[0], parts[1:]
        return
    depth, item = 0, ""
    for char in rest[:-1] + ",":
        if char == "," and depth == 0:
            if item:
                yield from expand(head + item)
            item = ""
            continue
        depth += (char == "{") - (char == "}")
        item += char


def longest(path, files):
    for length in range(len(path), 0, -1):
        if path[:length] in files:
            return path[:length]
    return None


def may_use(module, other):
    room, used = module[0], other[0]
    return used == room or used in ROOMS[room] or (used in BASE and room not in BASE)


def levels_of(imports):
    levels = {}

    def level(module):
        if module not in levels:
            levels[module] = 0
            levels[module] = 1 + max((level(other) for other in imports.get(module, ())), default=0)
        return levels[module]

    for module in imports:
        level(module)
    return levels


def circles(imports):
    """Each circle once, as a walk that ends where it begins."""
    seen, found = set(), []

    def walk(module, way):
        if module in way:
            found.append(way[way.index(module):] + [module])
            return
        if module in seen:
            return
        seen.add(module)
        for other in sorted(imports.get(module, ())):
            walk(other, way + [module])

    for module in sorted(imports):
        walk(module, [])
    return found


main()
