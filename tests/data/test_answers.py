"""Files of questions: every format, and errors that say where."""

from __future__ import annotations

import gzip
import json

import pytest

from kbert.data.answers import Answer, read_answers
from kbert.errors import InputError

CONTEXT = "Ann met 😀 Bob. Bob met Ann."


def write(folder, name, content):
    path = folder / name
    text = (content if isinstance(content, str) else json.dumps(content)).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


def question(id, *answers, **more):
    """A question of SQuAD; answers are (text, start)."""
    listed = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": id, "question": f"Who is {id}?", "answers": listed, **more}


def squad(*questions, context=CONTEXT):
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(questions)}]}]}


def lines(*rows):
    return "\n".join(json.dumps({"context": CONTEXT, "question": "Who?", **row}) for row in rows)


# === Formats ===


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_squad(tmp_path, name):
    document = squad(question("q0", ("Ann", 0), ("Bob", 10)), question("q1", is_impossible=True))
    document["data"].append(
        {"paragraphs": [{"context": "好的", "qas": [question("q2", ("的", 1), is_impossible=False)]}]}
    )
    records = read_answers(write(tmp_path, name, document))
    assert records.ids == ["q0", "q1", "q2"]
    assert records.questions == ["Who is q0?", "Who is q1?", "Who is q2?"]
    assert records.contexts == [CONTEXT, CONTEXT, "好的"]
    assert records.answers == [[("Ann", 0), ("Bob", 10)], [], [("的", 1)]]
    assert records.places == [
        "data[0].paragraphs[0].qas[0]",
        "data[0].paragraphs[0].qas[1]",
        "data[1].paragraphs[0].qas[0]",
    ]
    assert (records.skipped, records.moved, records.absent, len(records)) == (0, 0, 0, 3)


def test_json_lines(tmp_path):
    rows = lines(
        {"id": 7, "answers": [{"text": "Bob", "answer_start": 15}]},
        {"answers": ["Bob", {"text": "met"}]},
        {"answers": {"text": ["Ann"], "answer_start": [23]}, "id": None},
        {"answers": {"text": []}},
    )
    records = read_answers(write(tmp_path, "a.jsonl", "\n" + rows))
    assert (records.ids, records.places) == (["7", "3", "4", "5"], ["2", "3", "4", "5"])
    assert records.answers == [[("Bob", 15)], [("Bob", 10), ("met", 4)], [("Ann", 23)], []]
    assert records.moved == 0


def test_answers_that_are_not_at_their_place_move_to_the_nearest(tmp_path):
    moved = question("q", ("Bob", -1), ("Bob", 14), ("Bob", 999), ("Ann", 1), ("Ann", 22), ("Eve", -1), ("Bob", 10))
    records = read_answers(write(tmp_path, "a.json", squad(moved)))
    assert [answer.start for answer in records.answers[0]] == [10, 15, 15, 0, 23, -1, 10]
    assert records.answers[0][5] == Answer("Eve", -1)
    assert (records.moved, records.absent) == (5, 1)


def test_answers_are_not_asked_for_when_predicting(tmp_path):
    records = read_answers(write(tmp_path, "a.jsonl", lines({}, {"answers": 5})), labelled=False)
    assert (records.questions, records.contexts, records.answers) == (["Who?"] * 2, [CONTEXT] * 2, [[], []])


# === Bad files ===

PLACE = r"a.json:data\[0\].paragraphs\[0\].qas\[0\]: "


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (" ", "a.json is empty"),
        ('{"data":\n[}', "a.json:2: not JSON"),
        ({"data": []}, "a.json holds no record"),
        ([], "a.json:1: no list 'data', which SQuAD's files have there"),
        ({"questions": []}, "a.json:1: no list 'data'"),
        ({"data": [5]}, r"a.json:data\[0\]: not a JSON object"),
        ({"data": [{}]}, r"a.json:data\[0\]: no list 'paragraphs'"),
        ({"data": [{"paragraphs": [{}]}]}, r"a.json:data\[0\].paragraphs\[0\]: no list 'qas'"),
        ({"data": [{"paragraphs": ["x"]}]}, r"a.json:data\[0\].paragraphs\[0\]: not a JSON object"),
        (squad("x"), PLACE + "not a JSON object"),
        (squad({"answers": []}), PLACE + "no value for 'question'"),
        (squad(question("q"), context=""), PLACE + "no value for 'context'"),
        (squad(question("q"), context=["x"]), PLACE + r"'context' must be a text, not \['x'\]"),
        (squad({"question": "q"}), PLACE + "no list 'answers'"),
        (squad(question("q", answers="Ann")), PLACE + "no list 'answers'"),
        (squad(question("q", ("", 0))), PLACE + "no value for 'text of an answer'"),
        (squad(question("q", (5, 0))), PLACE + "'text of an answer' must be a text, not 5"),
        (squad(question("q", ("Ann", "0"))), PLACE + "'answer_start' must be a whole number, not '0'"),
        (squad(question("q", ("Ann", 0), is_impossible=True)), PLACE + "'is_impossible' is set, but there are answers"),
        (
            squad(question("q", ("Eve", 0), ("ann", -1))),
            PLACE + r"the context holds none of the answers \('Eve', 'ann'\)",
        ),
        (squad(question("q", answers={"text": ["Ann"], "answer_start": []})), PLACE + "'answers' must have as many"),
        (
            squad(question("q"), question("q")),
            r"qas\[1\]: the id 'q' is that of data\[0\].paragraphs\[0\].qas\[0\], too",
        ),
    ],
)
def test_bad_squad(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read_answers(write(tmp_path, "a.json", content))


def test_bad_json_lines(tmp_path):
    rows = lines({"answers": ["Ann"]}, {"answers": ["Eve"]}, {"context": " ", "answers": []}) + "\n{\n"
    path = write(tmp_path, "a.jsonl", rows)
    with pytest.raises(InputError, match=r"a.jsonl:2: the context holds none of the answers \('Eve'\)"):
        read_answers(path)
    records = read_answers(path, skip_bad_lines=True)
    assert (records.places, records.skipped, records.absent) == (["1"], 3, 0)


def test_bad_parts_of_squad_can_be_skipped_and_are_counted(tmp_path):
    document = squad(question("q0", ("Eve", 3)), question("q1", ("Ann", 0)), "x")
    document["data"] += [5, {"paragraphs": [{}]}]
    records = read_answers(write(tmp_path, "a.json", document), skip_bad_lines=True)
    assert (records.ids, records.skipped) == (["q1"], 4)
    with pytest.raises(InputError, match=r"b.json holds no record \(and 1 bad ones\)"):
        read_answers(write(tmp_path, "b.json", squad("x")), skip_bad_lines=True)


def test_other_names(tmp_path):
    with pytest.raises(InputError, match=r"a.txt: the name must end in .json or .jsonl \(and .gz if compressed\)"):
        read_answers(write(tmp_path, "a.txt", "x"))


# === Published files ===


@pytest.mark.parametrize(
    ("file", "questions", "answers", "moved", "absent", "skipped"),
    [
        ("squad11_dev/dev-v1.1.rebuilt.json", 10570, 34726, 0, 0, 0),
        ("cmrc2018/cmrc2018_dev.json", 3219, 9657, 7, 193, 0),
        ("cmrc2018/cmrc2018_trial.json", 1000, 1000, 5, 0, 2),  # two questions are empty
    ],
)
def test_published_files(real_data, file, questions, answers, moved, absent, skipped):
    records = read_answers(real_data(file), skip_bad_lines=True)
    assert (len(records), sum(map(len, records.answers))) == (questions, answers)
    assert (records.moved, records.absent, records.skipped) == (moved, absent, skipped)
    for context, found in zip(records.contexts, records.answers, strict=True):
        assert all(context.startswith(text, start) for text, start in found if start >= 0)
