"""Pages for maintainers say what the code does: names exist, examples run, maps and links are up to date."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rtgod.journal.journal import JournalWriter, read_journal
from rtgod.settings import PipelineSettings
from tests.small import messages

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
HEADINGS = ("Date", "Status", "Context", "Decision", "Alternatives", "Consequences")
#: Code in a page: `rtgod.server.session.Session.check`.
NAME = re.compile(r"`((?:rtgod|calibration|stimulus)(?:\.\w+)+)`")
#: A setting in a page: `nuisance.discard_s`.
SETTING = re.compile(rf"`({'|'.join(PipelineSettings.model_fields)})\.(?!tsv`)(\w+)`")


def is_there(name):
    """Whether a module, or a class, function, method or field in one, has this dotted name; nothing is imported."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        folder = ROOT.joinpath(*parts[:n])
        path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        if path.is_file():
            return defines(ast.parse(path.read_text(encoding="utf-8")).body, parts[n:])
    return False


def defines(body, parts):
    if not parts:
        return True
    for node in body:
        match node:
            case ast.ClassDef(name=name, body=inner) if name == parts[0]:
                return defines(inner, parts[1:])
            case ast.FunctionDef(name=name) if [name] == parts:
                return True
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]) if [name] == parts:
                return True
    return False


@pytest.mark.parametrize("page", ["architecture.md", "glossary.md", "journal.md"])
def test_every_module_class_and_setting_that_a_page_names_is_there(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    names = NAME.findall(text)
    assert names
    assert [name for name in names if not is_there(name)] == []
    unknown = [
        f"{table}.{name}"
        for table, name in SETTING.findall(text)
        if name not in PipelineSettings.model_fields[table].annotation.model_fields
    ]
    assert unknown == []


@pytest.mark.parametrize(
    "name",
    [
        "rtgod.server.session.Session.checks",
        "rtgod.servers",
        "rtgod.messages.Run.tr_ms",
        "calibration.training.fit.fitted",
    ],
)
def test_a_name_that_nothing_has_is_noticed(name):
    assert not is_there(name)


def test_the_glossary_gives_one_meaning_to_each_word():
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| [^|]+ \|$", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.M)
    words = [word.strip().lower() for row in rows if row != "word" for word in re.sub(r"\(.*\)", "", row).split(",")]
    assert len(words) > 50
    assert sorted(words) == sorted(set(words))


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_the_template_s_headings_a_date_and_the_number_of_its_file(path):
    text = path.read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\*\*(\w+)\.\*\*", text, re.M)) == HEADINGS
    assert re.search(r"^\*\*Date\.\*\* \d{4}-\d{2}-\d{2}$", text, re.M)
    assert re.search(r"^\*\*Status\.\*\* (.* )?(accepted|superseded)", text, re.M)
    assert re.match(rf"# {int(path.name[:4])}\. \S", text)
    empty = [name for name in HEADINGS if not re.search(rf"^\*\*{name}\.\*\*\s+\S", text, re.M)]
    assert empty == []


def test_decisions_have_a_number_each_and_the_template_their_headings():
    numbers = [path.name[:4] for path in DECISIONS]
    assert numbers
    assert len(numbers) == len(set(numbers))
    template = (DOCS / "decisions" / "template.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\*\*(\w+)\.\*\*", template, re.M)) == HEADINGS


def test_links_between_pages_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    links = [
        (page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    ]
    assert links
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []


def test_the_maps_are_those_of_the_imports():
    drawn = subprocess.run([sys.executable, "docs/draw_map.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert drawn.returncode == 0, drawn.stderr


def test_a_journal_is_read_by_the_page_s_example(tmp_path):
    path = tmp_path / "small.rtgod"
    with JournalWriter(path) as journal:
        for message in messages(indices=range(3)):
            journal.append(message)
    (example,) = re.findall(r"```python\n(.*?)```", (DOCS / "journal.md").read_text(encoding="utf-8"), re.S)
    names = {}
    exec(compile(example, "docs/journal.md", "exec"), names)  # noqa: S102 # our own page
    kinds = ["run", "volume", "volume", "volume", "run-end"]
    headers = list(names["headers"](path))
    assert [header["type"] for header in headers] == kinds
    assert [header.get("index") for header in headers] == [None, 0, 1, 2, None]
    assert len(list(read_journal(path))) == len(kinds)

    path.write_bytes(path.read_bytes()[:-1])  # a crash in the middle of a record
    assert [header["type"] for header in names["headers"](path)] == kinds[:-1]
