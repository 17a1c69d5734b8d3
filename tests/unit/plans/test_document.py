import pytest

from aumai_transactions.errors import PlanFileError
from aumai_transactions.plans.document import FILE_BYTES_MAX, read_document, shown_place


def read(path):
    return read_document(path, path.name)


def test_toml_and_json_become_the_same_document(plan_file):
    toml = read(plan_file('a = 1\n[[b]]\nc = "x"\n'))
    assert toml == {"a": 1, "b": [{"c": "x"}]}
    assert read(plan_file('{"a": 1, "b": [{"c": "x"}]}', "plan.JSON")) == toml
    assert read(plan_file("\ufeffa = 1\n")) == {"a": 1}


@pytest.mark.parametrize(
    "name,content,message",
    [
        ("p.toml", "a = \n", "p.toml: line 1, column 5: is not TOML: Invalid value."),
        ("p.toml", 'a = "x', "p.toml: end of document: is not TOML: Unterminated string."),
        ("p.toml", "a = 1\n\na = 2\n", "line 3, column 6: is not TOML: Cannot overwrite a value."),
        ("p.toml", "[a]\n[a]\n", "line 2, column 3: is not TOML: Cannot declare"),
        ("p.toml", "a\tb", "line 1, column 3: is not TOML"),
        ("p.toml", "a = 1\n\x00", "line 2, column 1: is not TOML"),
        ("p.toml", "", "p.toml: is empty. A plan has at least [[steps]]."),
        ("p.toml", "# nothing\n", "is empty"),
        ("p.toml", "a = " + "[" * 100_000, "is nested too deep"),
        ("p.toml", "a = " + "[" * 90 + "]" * 90, "a[1][1][1]…: is nested more than 80 deep."),
        ("p.toml", "a." * 120_000 + "a = 1", "line 1: has more than 64 names with dots"),
        ("p.toml", "\n[" + '"a" . ' * 40_000 + "a]", "line 2: has more than 64 names with dots"),
        ("p.toml", "a = " + "9" * 5_000, "holds a whole number of more than 4,300 digits"),
        ("p.toml", "a = 1979-13-41", "is not TOML"),
        (
            "p.toml",
            "[x]\na = 1979-05-27",
            "x.a: is a date or a time, which JSON does not have. Put",
        ),
        ("p.toml", "a = [07:32:00]", "a[1]: is a date or a time"),
        ("p.toml", b"\xff\xfea\x00", "line 1: is not UTF-8 (byte 0xff). Save it as UTF-8."),
        ("p.toml", b"a = 1\nb = '\xe9'", "line 2: is not UTF-8"),
        ("p.toml", "a" * (FILE_BYTES_MAX + 1), "is larger than 256 KB"),
        ("p.json", '{"a": }', "p.json: line 1, column 7: is not JSON: Expecting value."),
        ("p.json", '{\n"a": 1,\nb}', "line 3, column 1: is not JSON"),
        ("p.json", "{} {}", "line 1, column 4: is not JSON: Extra data."),
        ("p.json", "", "line 1, column 1: is empty"),
        ("p.json", "{}", "is empty. A plan has at least"),
        ("p.json", "[1]", "must be one object, { … }, not a list."),
        ("p.json", "null", "must be one object, { … }, not null."),
        ("p.json", '{"a": NaN}', "is not JSON: NaN is not a JSON number."),
        ("p.json", '{"a": "\x01"}', "is not JSON: Invalid control character at."),
        ("p.json", '{"a": ' + "[" * 100_000, "is nested too deep"),
        ("p.json", '{"a": ' + "[" * 90 + "]" * 90 + "}", "is nested more than 80 deep"),
        ("p.json", '{"a": {"b": 1, "c": 2, "b": 3}}', "p.json: a.b: stands twice. Keep one of"),
        ("p.json", '{"steps": [{}, {"x y": 1, "x y": 1}]}', 'steps[2]."x y": stands twice.'),
        ("p.json", '{"a": ' + "9" * 5_000 + "}", "holds a whole number of more than 4,300 digits"),
        ("p.yaml", "a: 1", "plan files are TOML or JSON; YAML is not read."),
        ("p.txt", "a = 1", "a plan file is named ….toml or ….json; rename it."),
        ("plan", "a = 1", "a plan file is named"),
    ],
)
def test_a_file_that_is_no_document_is_refused_by_place(name, content, message, plan_file):
    with pytest.raises(PlanFileError) as caught:
        read(plan_file(content, name))
    assert message in str(caught.value)
    assert caught.value.file == name
    assert str(caught.value).isprintable()


def test_a_file_of_the_largest_size_is_read(plan_file):
    text = "a = 1\n"
    padded = text + "#" * (FILE_BYTES_MAX - len(text))
    assert read(plan_file(padded)) == {"a": 1}


def test_a_key_with_as_many_dots_as_anybody_needs_is_read(plan_file):
    assert read(plan_file("a." * 60 + "a = 1"))["a"]


def test_a_long_text_with_dots_is_no_key(plan_file):
    text = "sentence one. and two. " * 100 + "…" + "." * 300
    assert read(plan_file(f'a = "{text}"')) == {"a": text}


def test_a_file_that_is_not_there_is_named_with_its_whole_path(tmp_path):
    path = tmp_path / "gone.toml"
    with pytest.raises(PlanFileError, match=f"does not exist \\({path}\\)"):
        read(path)


def test_a_folder_is_no_plan(tmp_path):
    folder = tmp_path / "x.toml"
    folder.mkdir()
    with pytest.raises(PlanFileError, match="cannot be read: Is a directory"):
        read(folder)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path):
    # Why a directory: root may read everything else.
    path = tmp_path / "plan.toml"
    path.mkdir()
    with pytest.raises(PlanFileError, match=r"plan\.toml"):
        read(path)


@pytest.mark.parametrize(
    "place,shown",
    [
        ((), ""),
        (("steps", 1, "agent"), "steps[2].agent"),
        (("actions", "a b", "url"), 'actions."a b".url'),
        (("actions", "\x1b[2J"), 'actions."\\x1b[2J"'),
        (("steps", 0, "data", "a", 0, "$output"), "steps[1].data.a[1].$output"),
    ],
)
def test_items_are_counted_from_one_and_odd_keys_quoted(place, shown):
    assert shown_place(place) == shown
