"""Reading: every format and encoding, right line numbers, and a clear refusal of the rest."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from foreword.data.readers.delimited import read_csv
from foreword.data.readers.json_lines import read_json
from foreword.data.readers.read import Table, read
from foreword.errors import DataError, SettingsError


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def cells(table: Table, name: str) -> list[object]:
    return [row.fields[name] for row in table.rows]


def lines(table: Table) -> list[int]:
    return [row.source.line for row in table.rows]


CSV = "text,label\ngood film,1\nbad film,0\n"
CHINESE = "text,label\n这家酒店的服务很好，我们都很满意,1\n房间不干净，下次不会再来了,0\n"


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8-sig"), ("gbk", "gb18030"), ("gb18030", "gb18030"),
     ("utf-16", "utf-16"), ("utf-32", "utf-32")],
)  # fmt: skip
def test_encodings_give_the_same_rows(tmp_path: Path, encoding: str, expected: str) -> None:
    table = read(write(tmp_path, "a.csv", CHINESE.encode(encoding)))
    assert table.encoding == expected
    assert table.columns == ("text", "label")
    assert cells(table, "text") == ["这家酒店的服务很好，我们都很满意", "房间不干净，下次不会再来了"]
    assert [row.id for row in table.rows] == [row.id for row in read(write(tmp_path, "b.csv", CHINESE)).rows]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("text,label\ncafé résumé naïve,1\ndéjà vu,0\n", "latin-1"),
     ("text,label\n這家飯店的服務很好我們都很滿意而且早餐也不錯,1\n", "big5"),
     ("text,label\nこのホテルのサービスはとても良いです,1\n", "euc-jp"),
     ("text,label\n이 호텔의 서비스는 매우 좋았고 방도 깨끗했습니다 다시 오고 싶습니다,1\n", "euc-kr")],
)  # fmt: skip
def test_an_encoding_that_is_not_certain_is_refused_and_can_be_named(tmp_path: Path, text: str, encoding: str) -> None:
    path = write(tmp_path, "a.csv", text.encode(encoding))
    with pytest.raises(DataError, match="encoding") as caught:
        read(path)
    assert caught.value.where == f"{path}:2"
    assert cells(read(path, encoding=encoding), "text")[0] == text.split("\n")[1].split(",")[0]


def test_an_unknown_encoding_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="utf-99"):
        read(write(tmp_path, "a.csv", CSV), encoding="utf-99")
    with pytest.raises(SettingsError):
        read(write(tmp_path, "a.csv", CSV), encoding="base64")
    with pytest.raises(DataError, match="not in the encoding"):
        read(write(tmp_path, "a.csv", CHINESE), encoding="ascii")


def test_csv_with_quoted_line_breaks_knows_where_rows_start(tmp_path: Path) -> None:
    text = 'text,label\r\n"one\r\ntwo, ""quoted""",a\r\n\r\nplain,b\r\n"x\ny\nz",a\r\nend,b'
    table = read(write(tmp_path, "a.csv", text))
    assert cells(table, "text") == ['one\r\ntwo, "quoted"', "plain", "x\ny\nz", "end"]
    assert lines(table) == [2, 5, 6, 9]
    assert not table.problems


def test_ragged_rows_are_reported_and_the_others_kept(tmp_path: Path) -> None:
    text = "text,label\na,x\nb\nc,y,extra\nd,x,,\n,,\n  \ne,y\n"
    path = write(tmp_path, "a.csv", text)
    table = read(path)
    assert cells(table, "text") == ["a", "d", "", "e"]
    assert [problem.where for problem in table.problems] == [f"{path}:3", f"{path}:4"]
    assert "1 cells; the header has 2" in table.problems[0].message


def test_a_quote_that_is_never_closed_costs_one_row(tmp_path: Path) -> None:
    text = 'text,label\na,x\n"open,y\nb,x\n"c" d,y\ne,y\n'
    path = write(tmp_path, "a.csv", text)
    table = read(path)
    assert cells(table, "text") == ["a", "b", "e"]
    assert lines(table) == [2, 4, 6]
    assert [problem.where for problem in table.problems] == [f"{path}:3", f"{path}:5"]


def test_a_row_over_very_many_lines_is_suspicious(tmp_path: Path) -> None:
    table = read(write(tmp_path, "a.csv", 'text,label\n"' + "line\n" * 60 + '",x\nb,y\n'))
    assert [problem.severity for problem in table.problems] == ["warning"]
    assert len(table) == 2


def test_quotes_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not CSV"):
        read(write(tmp_path, "a.csv", "text,label\n" + '"a" b,x\n' * 200))


def test_old_line_ends_and_blank_lines_before_the_header(tmp_path: Path) -> None:
    table = read(write(tmp_path, "a.csv", "\n \ntext;label\na, b;x\n"))
    assert (table.rows[0].fields, lines(table)) == ({"text": "a, b", "label": "x"}, [4])
    table = read(write(tmp_path, "b.csv", "text,label\ra,x\rb,y\r"))
    assert lines(table) == [2, 3]


def test_an_index_column_without_a_name_is_no_input(tmp_path: Path) -> None:
    table = read(write(tmp_path, "a.csv", ",headline,label\n0,a,x\n1,b,y\n"))
    assert table.layout.inputs == ("headline",)


def test_semicolons_and_huge_cells(tmp_path: Path) -> None:
    table = read(write(tmp_path, "a.csv", "text;label\n" + "long, " * 60_000 + ";x\nb;y\n"))
    assert len(str(table.rows[0].fields["text"])) == 360_000
    assert table.layout.kind == "classification"


@pytest.mark.parametrize(
    ("header", "message"),
    [("text,text\na,b\n", "same name"), ("text,label\n", "no rows"), ("", "empty"), (" \n\n", "empty")],
)
def test_files_without_rows(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, "a.csv", header))


def test_places_that_are_not_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="folder"):
        read(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "nothing.csv")


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04abc",
        b"\x80\x04\x95abc",
        bytes(range(256)) * 8,
        b"\x00" * 50 + b"a",
        "text,label\na,b\n".encode("utf-16-le"),
    ],
)
def test_binary_files_are_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("a.csv", "a.jsonl", "a"):
        with pytest.raises(DataError) as caught:
            read(write(tmp_path, name, content))
        assert caught.value.hint


def test_a_nul_or_half_a_surrogate_costs_its_row(tmp_path: Path) -> None:
    text = "text,label\n" + "a fine text,x\n" * 20 + "b\x00,y\nc,y\n"
    path = write(tmp_path, "a.csv", text)
    table = read(path)
    assert len(table) == 21
    assert table.problems[0].where == f"{path}:22"
    path = write(tmp_path, "a.jsonl", '{"text": "\\ud800", "label": "a"}\n{"text": "\\ud83d\\ude00", "label": "b"}\n')
    table = read(path)
    assert cells(table, "text") == ["😀"]
    assert "surrogate" in table.problems[0].message


def test_jsonl_problems_have_their_lines(tmp_path: Path) -> None:
    rows = [
        '{"text": "a", "label": 1}', "", '{"text": "b", "label": 0', '["c"]', '{"text": "d", "text": "e", "label": 0}',
        '{"text": "f", "label": 0} x', '{"text": "g\u2028h", "label": NaN}', '{"text": ' + "9" * 5000 + "}",
        "[" * 100_000, '{"text": "i", "label": true}',
    ]  # fmt: skip
    path = write(tmp_path, "a.jsonl", "\r\n".join(rows))
    table = read(path)
    assert cells(table, "text") == ["a", "g\u2028h", "i"]
    assert cells(table, "label") == [1, None, True]
    assert lines(table) == [1, 7, 10]
    assert [problem.where for problem in table.problems] == [f"{path}:{line}" for line in (3, 4, 5, 6, 8, 9)]
    assert "'text' is there twice" in table.problems[2].message


@pytest.mark.parametrize("wrap", ["{}", '{{"version": 1,\n"data": {}}}', "\ufeff{}"])
def test_json_lists_know_their_lines(tmp_path: Path, wrap: str) -> None:
    body = '[\n {"text": "a",\n  "label": "x"},\n\n {"text": "b", "label": "y"},\n 3,\n {"text": "c", "text": "d"}\n]'
    path = write(tmp_path, "a.json", wrap.format(body))
    first = 1 if '"data"' in wrap else 0
    table = read(path)
    assert lines(table) == [2 + first, 5 + first]
    assert [problem.where for problem in table.problems] == [f"{path}:{6 + first}", f"{path}:{7 + first}"]


def test_json_lines_under_the_name_json_and_without_a_name(tmp_path: Path) -> None:
    body = '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n'
    for name in ("a.json", "a.data", "noname"):
        assert lines(read(write(tmp_path, name, body))) == [1, 2]
    broken = read(write(tmp_path, "b.json", '{"text": "a", "label"}\n' + body))
    assert lines(broken) == [2, 3]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('[{"text": "a"},\n{"text": ]', "not valid JSON"),
        ('{"a": 1, "data": {"b": 2}}', "not recognised"),
        ('{"a": 1}', "not recognised"),
        ("3", "not a list"),
        ("[]", "no rows"),
        ('[{"text": "a"} {"text": "b"}]', "comma"),
        ("[1, 2]", "none of the 2 rows"),
    ],
)
def test_json_of_another_shape_is_refused(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, "a.json", body))


def test_gzip(tmp_path: Path) -> None:
    packed = gzip.compress(CSV.encode())
    assert len(read(write(tmp_path, "a.csv.gz", packed))) == 2
    with pytest.raises(DataError, match="gzip"):
        read(write(tmp_path, "a.csv.gz", packed[:-12]))


def test_tsv_with_and_without_header_and_stray_quotes(tmp_path: Path) -> None:
    table = read(write(tmp_path, "a.tsv", 'text\tlabel\n"open\tx\n5" screen\ty\n'))
    assert cells(table, "text") == ['"open', '5" screen']
    table = read(write(tmp_path, "a.tsv", 'MR\toutput\n"name[A], food[B]"\t"He said ""hi"""\n'))
    assert table.rows[0].fields == {"MR": "name[A], food[B]", "output": 'He said "hi"'}
    table = read(write(tmp_path, "a.tsv", 'What is AI?\tA field.\r\nAnd you?\t"Fine"\r\n'))
    assert table.columns == ("source", "reply")
    assert lines(table) == [1, 2]
    assert cells(table, "reply") == ["A field.", '"Fine"']


def test_pairs_in_a_text_file(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "你好\t您好\n\nno tab here\na\tb\tc\nok\tfine\n")
    table = read(path)
    assert lines(table) == [1, 5]
    assert [problem.where for problem in table.problems] == [f"{path}:3", f"{path}:4"]
    with pytest.raises(DataError, match="none of the 1 rows") as caught:
        read(write(tmp_path, "b.txt", "a\tb\tc\n"))
    assert "tab" in str(caught.value.hint)
    assert read(write(tmp_path, "b.txt", "just prose\n")).layout.plain
    assert cells(read(tmp_path / "b.txt", inputs=["source"], labelled=False), "source") == ["just prose"]


def test_parquet_and_its_class_names(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    feature = {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}, "text": {"dtype": "string", "_type": "Value"}}
    table = pyarrow.table({"text": ["a", "b", None], "label": [1, 0, -1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(table, path)
    found = read(path)
    assert cells(found, "label") == ["pos", "neg", None]
    assert lines(found) == [1, 2, 3]
    data = path.read_bytes()
    with pytest.raises(DataError, match="Parquet"):
        read(write(tmp_path, "b.parquet", data[: len(data) // 2]))
    with pytest.raises(DataError, match="not a Parquet"):
        read(write(tmp_path, "c.parquet", CSV))


def test_objects_in_memory() -> None:
    import datasets
    import pandas

    frame = pandas.DataFrame({"text": ["a", "b", "c"], "label": [1, None, pandas.NA], "when": pandas.Timestamp(0)})
    table = read(frame)
    assert cells(table, "label") == [1, None, None]
    assert isinstance(table.rows[0].fields["when"], str)
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    assert cells(read(data), "label") == ["yes", "no"]
    with pytest.raises(DataError, match="train"):
        read(datasets.DatasetDict({"train": data, "test": data}))
    table = read([{"text": "a", "label": 1}, "junk", {"text": "b", "label": 0}])
    assert lines(table) == [1, 3]
    assert table.problems[0].where == "list:2"
    with pytest.raises(DataError, match="cannot be read as rows"):
        read(42)
    with pytest.raises(DataError, match="no rows"):
        read([])


def test_ids_follow_the_content_and_not_the_line(tmp_path: Path) -> None:
    first = read(write(tmp_path, "a.csv", "text,label\na,x\nb,y\na,x\n"))
    again = read(write(tmp_path, "b.jsonl", '{"label":"y","text":"b"}\n{"text":"a","label":"x"}\n' * 2))
    ids = [row.id for row in first.rows]
    assert len(set(ids)) == 3
    assert ids[0][:-2] == ids[2][:-2]
    assert ids[2].endswith("-1")
    assert set(ids) < {row.id for row in again.rows}
    assert first.digest != again.digest
    assert first.name == "a.csv"


def test_messages_become_prompt_and_completion(tmp_path: Path) -> None:
    user, answer = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
    rows = [
        {"messages": [user, answer], "topic": "x"},
        {"messages": [{"role": "system", "content": "Be kind."}, user, answer, user, answer]},
        {"messages": [user]},
        {"messages": []},
        {"messages": [user, {"role": "assistant", "content": None}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]},
                answer,
            ]
        },
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, answer]},
    ]
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    table = read(path)
    assert cells(table, "prompt") == ["Hi", "System: Be kind.\nUser: Hi\nAssistant: Hello\nUser: Hi", "AB"]
    assert set(cells(table, "completion")) == {"Hello"}
    assert [int(problem.where.rpartition(":")[2]) for problem in table.problems] == [3, 4, 5, 7]
    assert table.layout.kind == "generation"
    assert "last assistant message" in table.layout.description
    assert cells(read(path, labelled=False), "prompt")[2] == "Hi"
    shared = [{"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}]
    assert read(shared).rows[0].fields == {"prompt": "Q", "completion": "A"}


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.txt", "a.parquet", "a"])
def test_damaged_bytes_never_give_anything_but_a_data_error(tmp_path: Path, name: str) -> None:
    import random

    dice = random.Random(13)
    good = (CSV + CHINESE + '{"text": "a", "label": "\\ud800"}\n[{"data": "x\ty"}]').encode()
    for _ in range(150):
        data = bytearray(good)
        for _ in range(dice.randrange(1, 12)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            table = read(write(tmp_path, name, bytes(data[: dice.randrange(1, len(data))])))
        except DataError:
            continue
        assert len({row.id for row in table.rows}) == len(table)


def test_what_the_csv_and_json_writers_write_is_read_back_with_its_lines() -> None:
    import csv
    import io
    import random

    dice = random.Random(3)
    for _ in range(500):
        rows = [["".join(dice.choices('ab,"\n\r\t ;é中', k=dice.randrange(6))) for _ in "xyz"] for _ in range(4)]
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator=dice.choice(["\n", "\r\n"]))
        writer.writerows([list("xyz"), *rows])
        raw = read_csv(buffer.getvalue(), "f")
        assert [list(fields.values()) for fields, _ in raw.records] == rows
        text = json.dumps([dict(zip("xyz", row, strict=True)) for row in rows], indent=dice.choice([None, 0, 2]))
        found = read_json(text, "f").records
        assert [list(fields.values()) for fields, _ in found] == rows
        assert all("{" in text.split("\n")[line - 1] for _, line in found)
