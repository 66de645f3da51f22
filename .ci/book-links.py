"""An mdBook preprocessor: makes links that leave docs/ lead to the repository, and its pictures come along."""

import json
import re
import sys

if sys.argv[1:2] == ["supports"]:
    sys.exit(0)

context, book = json.load(sys.stdin)
repository = context["config"]["output"]["html"]["git-repository-url"]


def outward(match: re.Match[str]) -> str:
    path = match[2]
    # .ci/docs copies these next to the pages.
    return f"{match[1]}{path}" if path.startswith("dashboards/screenshots/") else f"{match[1]}{repository}/blob/main/{path}"


def rewrite(item: object) -> None:
    if isinstance(item, dict) and "Chapter" in item:
        chapter = item["Chapter"]
        chapter["content"] = re.sub(r"(\]\()\.\./([^)\s]+)", outward, chapter["content"])
        for inner in chapter["sub_items"]:
            rewrite(inner)


for item in book.get("items", book.get("sections", [])):
    rewrite(item)
json.dump(book, sys.stdout)
