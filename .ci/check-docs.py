"""Checks of the docs that no ready-made tool has. usage: python3 .ci/check-docs.py"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Pages whose words and links are checked. Licences and data's notes have other authors.
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob(".github/**/*.md")]
    + [ROOT / name / "README.md" for name in ("ingest", "cloudformation", "packer")]
)


def tracked(*folders: str) -> list[Path]:
    """Returns the files of these folders that are in the repository, which builds and fuzzing add others to."""
    names = subprocess.run(["git", "ls-files", "-z", "--", *folders], cwd=ROOT, capture_output=True, check=True)
    return sorted(ROOT / name for name in names.stdout.decode().split("\0") if name)


# Texts that users and operators read outside of pages: descriptions, help, alarms, units, and comments in them.
TEXTS = [
    path
    for path in tracked("cloudformation", "config", "packer", "systemd")
    if "tests" not in path.parts and path.suffix != ".md"
]
# Scripts of tests, benches and CI, and the pages and descriptions that they use.
SCRIPTS = [
    path
    for path in tracked(".ci", "benches", "cloudformation/tests", "ingest/benches", "packer/tests", "tests")
    if path.suffix in ("", ".html", ".mjs", ".py", ".sh", ".yaml")
    and path != Path(__file__).resolve()
    and "data" not in path.parts
]
# Comments of the code, which are the docs of those who change it.
SOURCES = [
    path
    for path in tracked("client", "src", "ingest", "tests", "benches", "examples")
    if path.suffix == ".rs"
]
COMMENT = re.compile(r"\s*//[/!]? ?(.*)")
# The name of an entry in the stack's allowlist, which CloudFormation would write again if it changed.
FIXED = re.compile(r'name = "the gate itself"')
# Pages that show words in order to forbid them, or output of programs.
QUOTING = {ROOT / "docs/style.md"}
# Files that the pages name and that are not here.
FOREIGN = {"rust-toolchain.toml", "/etc/trailgate/trailgate.toml", "/etc/trailgate/allowlist.toml"}
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(page: Path) -> list[tuple[int, str]]:
    """Returns the numbered lines of a page outside code blocks and without code spans."""
    lines, fenced = [], False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            lines.append((number, re.sub(r"`[^`]*`", "``", line)))
    return lines


def dialect() -> list[str]:
    rows = [line.split("\t") for line in (ROOT / ".ci/dialect.txt").read_text().splitlines() if not line.startswith("#")]
    words = [(re.compile(pattern), instead) for pattern, instead in rows]
    lines = [(page, number, line) for page in PAGES if page not in QUOTING for number, line in prose(page)]
    lines += [
        (path, number, FIXED.sub("", line))
        for path in [*TEXTS, *SCRIPTS]
        for number, line in enumerate(path.read_text().splitlines(), 1)
    ]
    lines += [
        (path, number, re.sub(r"`[^`]*`", "``", comment.group(1)))
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (comment := COMMENT.match(line))
    ]
    return [
        f"{path.relative_to(ROOT)}:{number}: {found.group()!r}: write {instead}"
        for path, number, line in lines
        for word, instead in words
        if (found := word.search(line))
    ]


def verbs() -> list[str]:
    """Returns the docs of functions that begin with no third-person verb. Those of tests say why, so they are free."""
    docs = re.compile(r"^ *///(?: (\w\S*).*| .*)?\n(?: *///.*\n)*((?: *#\[.*\n)*) *(?:pub(?:\([^)]*\))? )?(?:const )?(?:async )?fn (\w+)", re.M)
    return [
        f"{path.relative_to(ROOT)}: the doc of {function} begins with {first!r}: begin with a verb, such as Returns"
        for path in SOURCES
        for first, attributes, function in docs.findall(path.read_text())
        if "test" not in attributes and not re.match(r"[A-Z][a-z-]*s\b|Also\b", first)
    ]


def steps() -> list[str]:
    """Returns the steps (`file:function`) and the files of the pages that the code does not have."""
    errors = []
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for page in PAGES:
        names = re.findall(r"`([\w/.-]+\.(?:rs|py|toml|mjs))`", page.read_text())
        errors += [
            f"{page.relative_to(ROOT)}: there is no file {name}"
            for name in names
            if name not in FOREIGN and not any(f"/{path}".endswith("/" + name.lstrip("/")) for path in tracked)
        ]
        for file, function in re.findall(r"`([\w/.-]+\.rs):(\w+)`", page.read_text()):
            path = ROOT / file
            if not path.is_file() or not re.search(rf"\bfn {function}\b", path.read_text()):
                errors.append(f"{page.relative_to(ROOT)}: there is no {file}:{function}")
    return errors


def readme() -> list[str]:
    lines = len((ROOT / "README.md").read_text().splitlines())
    return [f"README.md: {lines} lines; at most 150"] if lines > 150 else []


def reachable() -> list[str]:
    """Every page is reached from the README, and every page of the book is in its summary."""
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen:
            continue
        seen.add(page)
        for target in LINK.findall(page.read_text()):
            path = (page.parent / target.split("#")[0]).resolve()
            if path.suffix == ".md" and path.exists() and path != ROOT / "docs/SUMMARY.md":
                todo.append(path)
    docs = {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - {ROOT / "docs/SUMMARY.md"}
    summary = (ROOT / "docs/SUMMARY.md").read_text()
    return [f"{page.relative_to(ROOT)}: no link leads here from README.md" for page in sorted(docs - seen)] + [
        f"docs/SUMMARY.md: {page.name} is missing" for page in sorted(docs) if f"({page.name})" not in summary
    ]


def shipped_keys() -> dict[str, str]:
    """Returns each key of config/trailgate.toml with its table, and its value as it is written there."""
    keys, table = {}, ""
    for line in (ROOT / "config/trailgate.toml").read_text().splitlines():
        if header := re.fullmatch(r"#?\[+([a-z_.]+)\]+", line):
            table = header[1]
        elif key := re.fullmatch(r"#?([a-z_]+) = (.+)", line):
            keys[f"{table}.{key[1]}"] = key[2]
    return keys


def documented_keys() -> dict[str, str]:
    keys, table = {}, ""
    for line in (ROOT / "docs/configuration.md").read_text().splitlines():
        if header := re.fullmatch(r"## `\[([a-z_.]+)\]`", line):
            table = header[1]
        elif row := re.match(r"\| `([a-z_.]+)` \| ([^|]+) \|", line):
            keys[f"{table}.{row[1]}"] = row[2].strip("`* ")
    return keys


def configuration() -> list[str]:
    shipped, documented = shipped_keys(), documented_keys()
    wrong = [f"docs/configuration.md: {key} is not in config/trailgate.toml" for key in documented.keys() - shipped.keys()]
    wrong += [f"docs/configuration.md: {key} has no row" for key in shipped.keys() - documented.keys()]
    # A default that is a value is the shipped one; other rows say in words what the default is.
    wrong += [
        f"docs/configuration.md: {key} has the default {shipped[key]}, not {documented[key]}"
        for key in shipped.keys() & documented.keys()
        if re.match(r'["\d\[]|true|false', documented[key]) and documented[key] != shipped[key]
    ]
    return sorted(wrong)


def alerts() -> list[str]:
    rules = (ROOT / "config/prometheus-rules.yaml").read_text()
    linked = dict(re.findall(r"- alert: (\w+)\n(?:(?!.*- alert:).*\n)*?.*runbook_url: \S+/alerts\.html#(\w+)", rules))
    headings = set(re.findall(r"^### (Trailgate\w+)$", (ROOT / "docs/alerts.md").read_text(), re.M))
    names = set(re.findall(r"- alert: (\w+)", rules))
    wrong = [f"docs/alerts.md: the alert {name} is not in both lists" for name in sorted(names ^ headings)]
    return wrong + [f"prometheus-rules.yaml: {name} has no link to its section" for name in sorted(names) if linked.get(name) != name.lower()]


def tests() -> list[str]:
    """Every test that the threat model or a command names exists."""
    named = {}
    for page in PAGES:
        text = page.read_text()
        names = re.findall(r"--(?:test integration|lib) ([a-z0-9_]{20,})", text)
        if page.name == "threat-model.md":
            names += re.findall(r"`([a-z0-9_]{20,})`", "\n".join(re.findall(r"^\| T\d.*$", text, re.M)))
        named.update(dict.fromkeys(names, page.relative_to(ROOT)))
    sources = subprocess.run(
        ["git", "grep", "-hoE", r"(fn|def) [a-z0-9_]{20,}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    there = {line.split()[1] for line in sources.stdout.splitlines()}
    return [f"{page}: there is no test {name}" for name, page in sorted(named.items()) if name not in there]


wrong = [*readme(), *reachable(), *dialect(), *verbs(), *configuration(), *alerts(), *tests(), *steps()]
print("\n".join(wrong) or f"{len(PAGES)} pages, {len(TEXTS)} texts: words, verbs, reachability, configuration, alerts, tests and steps agree")
sys.exit(bool(wrong))
