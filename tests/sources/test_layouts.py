"""Where columns come from: folder names, objects within objects, lists of messages; and pictures by content."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pe_beam.contracts import source as base
from pe_beam.contracts.content import FieldContent
from pe_beam.contracts.source import Source
from pe_beam.errors import DataError
from pe_beam.init.looking import look
from pe_beam.modalities.image.pixels import Pixels, PixelsOptions
from pe_beam.recipe.sources import open_source

TEXT = FieldContent(pa.schema([("text", pa.string())]))
KINDS = ("parquet", "csv", "jsonl")


def opened(kind: str, path: Path | str, **more: Any) -> Source:
    options: dict[str, Any] = {"content": TEXT, "columns": {}, "labelled": False, "client": False, **more}
    return open_source(**{"source": kind, "path": str(path), **options})


def read(source: Source) -> tuple[list[str | None], list[str | None], list[str]]:
    """Texts, labels, and kinds of faults."""
    batches = [batch for piece in source.pieces() for batch in source.read(piece)]
    source.refuse({fact for batch in batches for fact in batch.seen})
    texts = [x for batch in batches for x in batch.payload["text"].to_pylist()]
    kinds = [fault.kind for batch in batches for fault in batch.faults.values()]
    return texts, [x for batch in batches for x in batch.labels], kinds


def write(kind: str, file: Path, rows: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif kind == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        file.write_text("\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]) + "\n")
    return file


# Folder names


@pytest.mark.parametrize("kind", KINDS)
def test_columns_from_folder_names(kind: str, tmp_path: Path) -> None:
    for i, folder in enumerate(["seg=gold", "seg=si%20l%2Fver", "seg=__HIVE_DEFAULT_PARTITION__", "seg=caf%C3%A9/y=1"]):
        write(kind, tmp_path / folder / f"part.{kind}", [{"text": f"{i}a"}, {"text": f"{i}b"}])
    for marker in ("_SUCCESS", "_metadata", "_common_metadata", ".hidden.parquet", f"_temporary/0/x.{kind}"):
        (tmp_path / marker).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / marker).write_bytes(b"")
    for log in (f"_delta_log/x.checkpoint.{kind}", f"seg=gold/_spark_metadata/0.{kind}", f".cache/x.{kind}"):
        write(kind, tmp_path / log, [{"text": "never"}])
    wanted = {"0": "gold", "1": "si l/ver", "2": None, "3": "café"}
    for path in (tmp_path, f"{tmp_path}/**/*.{kind}", f"{tmp_path}/**"):
        texts, labels, kinds = read(opened(kind, path, labelled=True, columns={"label": "seg"}))
        assert len(texts) == 8 and not kinds
        assert {str(text)[0]: label for text, label in zip(texts, labels, strict=True)} == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_of_the_file_counts_more_than_its_folder(kind: str, tmp_path: Path) -> None:
    write(kind, tmp_path / "label=folder" / f"x.{kind}", [{"text": "a", "label": "own"}])
    write(kind, tmp_path / "label=other" / f"x.{kind}", [{"text": "b"}])
    assert read(opened(kind, tmp_path, labelled=True))[1] == ["own", "other"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_folders_say_is_part_of_the_digest_and_where_they_lie_is_not(kind: str, tmp_path: Path) -> None:
    def digest(root: Path, folder: str, **more: Any) -> str:
        write(kind, root / folder / f"x.{kind}", [{"text": "a"}])
        source = opened(kind, root, **more)
        (piece,) = source.pieces()
        return source.digest(piece)

    label = {"labelled": True, "columns": {"label": "seg"}}
    assert digest(tmp_path / "1", "seg=gold", **label) == digest(tmp_path / "2", "seg=gold", **label)
    assert digest(tmp_path / "3", "seg=tin", **label) != digest(tmp_path / "1", "seg=gold", **label)
    # A folder that gives no wanted column changes nothing: digests are as they were before folders counted.
    assert digest(tmp_path / "4", "seg=tin") == digest(tmp_path / "5", "plain")


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_file_outside_the_folders_lacks_the_column(kind: str, tmp_path: Path) -> None:
    write(kind, tmp_path / "seg=gold" / f"x.{kind}", [{"text": "a"}])
    write(kind, tmp_path / f"y.{kind}", [{"text": "a"}])
    with pytest.raises(DataError, match=r"data\.columns\.label: 'seg': no column of that name"):
        opened(kind, tmp_path, labelled=True, columns={"label": "seg"}).pieces()


# Objects within objects


def test_a_dotted_path_leads_into_objects_and_a_literal_name_wins(tmp_path: Path) -> None:
    rows = [
        {"review": {"body": "inside"}},
        {"review": {"body": "inside"}, "review.body": "literal"},
        {"review": {"deep.er": {"x": 1}, "body": None}},
        {"review": None},
        {"review": "no object"},
        {"review": {"body": ["a list"]}},
    ]
    write("jsonl", tmp_path / "x.jsonl", rows)
    texts, _, kinds = read(opened("jsonl", tmp_path, columns={"text": "review.body"}))
    assert texts == ["inside", "literal", None, None, None, None]
    assert sorted(kinds) == ["missing text"] * 3 + ["value that is no text, number, true, false or null"]
    assert read(opened("jsonl", tmp_path, columns={"text": "review.deep.er.x"}))[0][2] == "1"


def test_a_dotted_path_leads_into_structs(tmp_path: Path) -> None:
    rows = [{"review": {"body": "a", "deep": {"stars": 5}}}, {"review": {"body": None, "deep": None}}, {"review": None}]
    write("parquet", tmp_path / "x.parquet", rows)
    columns = {"text": "review.body", "label": "review.deep.stars"}
    texts, labels, kinds = read(opened("parquet", tmp_path, labelled=True, columns=columns))
    assert (texts, labels) == (["a", None, None], ["5", None, None])
    assert kinds == ["missing text"] * 2
    pq.write_table(pa.table({"review": [{"body": "a"}], "review.body": ["literal"]}), tmp_path / "x.parquet")
    assert read(opened("parquet", tmp_path, columns={"text": "review.body"}))[0] == ["literal"]
    with pytest.raises(DataError, match=r"'review\.title': no column of that name"):
        opened("parquet", tmp_path, columns={"text": "review.title"}).pieces()
    with pytest.raises(DataError, match=r"'review': the column is of a wrong type"):
        opened("parquet", tmp_path, columns={"text": "review"}).pieces()


# Splits of a repository of Hugging Face

REPOSITORIES = {
    "names": {"data/train-00000-of-00002": "a", "data/train-00001-of-00002": "b", "data/test-00000-of-00001": "t"},
    "folders": {"default/train/0000": "a", "default/train/0001": "b", "default/test/0000": "t"},
    "other words": {"my_train-2": "a", "training": "b", "trainings.2": "no", "reviews.eval": "t"},
    "names before folders": {"test/train-0": "a", "x/train-1": "b", "train/test-0": "t"},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", REPOSITORIES)
def test_a_split_is_a_word_in_names(layout: str, kind: str, tmp_path: Path) -> None:
    for name, text in REPOSITORIES[layout].items():
        write(kind, tmp_path / f"{name}.{kind}", [{"text": text}])
    write(kind, tmp_path / f".cache/huggingface/train.{kind}", [{"text": "hidden"}])
    assert read(opened(kind, f"{tmp_path}#train"))[0] == ["a", "b"]
    assert read(opened(kind, f"{tmp_path}/#test"))[0] == ["t"]
    assert read(opened(kind, f"{tmp_path}/**.{kind}#train"))[0] == ["a", "b"]
    assert len(read(opened(kind, tmp_path))[0]) == len(REPOSITORIES[layout])
    with pytest.raises(DataError, match=r"data\.path: no file there is of the split #validation"):
        opened(kind, f"{tmp_path}#validation").pieces()


def test_a_split_reads_as_its_files_alone(tmp_path: Path) -> None:
    for name in ("test", "train"):
        write("jsonl", tmp_path / "all" / f"{name}-0.jsonl", [{"text": name}])
    write("jsonl", tmp_path / "alone" / "train-0.jsonl", [{"text": "train"}])
    split, alone = opened("jsonl", f"{tmp_path}/all#train"), opened("jsonl", tmp_path / "alone")
    names = [[(piece.name, source.digest(piece)) for piece in source.pieces()] for source in (split, alone)]
    assert names[0] == names[1]


def test_a_path_that_has_a_number_sign_itself(tmp_path: Path) -> None:
    write("csv", tmp_path / "a#b" / "x.csv", [{"text": "1"}])
    assert read(opened("csv", tmp_path / "a#b"))[0] == ["1"]
    assert read(opened("csv", tmp_path / "a#b/x.csv"))[0] == ["1"]


# Lists of messages

CHATS = [
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello\nyou"}],
    [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
    [{"role": "user", "content": [{"type": "text", "text": "What "}, {"type": "text", "text": "now?"}]}],
    [{"role": "assistant", "content": None}, {"role": "tool", "content": "42"}],
    [{"role": "user"}],
    ["Hi"],
]
AS_TEXT = ["user: Hi\nassistant: Hello\nyou", "human: Hi\ngpt: Hello", "user: What now?", "tool: 42", None, None]


def test_lists_of_messages_are_texts_where_that_is_declared(tmp_path: Path) -> None:
    write("jsonl", tmp_path / "x.jsonl", [{"text": chat} for chat in CHATS])
    texts, _, kinds = read(opened("jsonl", tmp_path, chat=True))
    assert (texts, kinds) == (AS_TEXT, ["value that is no list of messages with role and content"] * 2)
    assert set(read(opened("jsonl", tmp_path))[2]) == {"value that is no text, number, true, false or null"}


def test_lists_of_messages_in_parquet(tmp_path: Path) -> None:
    for i, chat in enumerate(CHATS[:4]):
        write("parquet", tmp_path / f"{i}.parquet", [{"text": chat}, {"text": None}])
    texts, _, kinds = read(opened("parquet", tmp_path, chat=True))
    assert texts == [text for found in AS_TEXT[:4] for text in (found, None)]
    assert kinds == ["missing text"] * 4
    with pytest.raises(DataError, match="wrong type"):
        opened("parquet", tmp_path).pieces()


def test_messages_that_python_cannot_hold_are_a_reject_of_their_own(tmp_path: Path) -> None:
    """A text that is not UTF-8, or an instant beyond the year 9999 in a key that nobody reads."""
    for at, (bad, when) in enumerate([(b"\xff", 0), (b"x", 2**62)]):
        content = pa.array([b"a", bad, b"b"], pa.binary()).view(pa.string())
        fields = [pa.array(["user"] * 3), content, pa.array([0, when, 0], pa.timestamp("us"))]
        messages = pa.StructArray.from_arrays(fields, names=["role", "content", "created"])
        lists = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), messages)
        pq.write_table(pa.table({"text": lists}), tmp_path / f"{at}.parquet")
    texts, _, kinds = read(opened("parquet", tmp_path, chat=True))
    assert texts == ["user: a", None, "user: b"] * 2
    assert kinds == ["value that is no list of messages with role and content"] * 2


# Columns that no record has


def test_a_key_that_no_record_has_is_refused(tmp_path: Path) -> None:
    write("jsonl", tmp_path / "a.jsonl", [{"Text": "a", "label": "x"}])
    write("jsonl", tmp_path / "b.jsonl", [{"Text": "a", "label": "x"}])
    with pytest.raises(DataError, match=r"data\.columns\.text: 'text': no record of data\.path has a key of that name"):
        read(opened("jsonl", tmp_path, labelled=True))
    with pytest.raises(DataError, match=r"data\.columns\.label: 'kind\.of': no record"):
        read(opened("jsonl", tmp_path, labelled=True, columns={"text": "Text", "label": "kind.of"}))
    write("jsonl", tmp_path / "b.jsonl", [{"text": None}])
    assert read(opened("jsonl", tmp_path, labelled=True))[0] == [None, None]


def test_lines_that_are_no_objects_are_rejects_and_say_nothing_of_keys(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("[1]\nno\n")
    assert read(opened("jsonl", tmp_path))[2] == ["line that is not a JSON object"] * 2


# Pictures


def picture(form: str) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(sink, form)
    return sink.getvalue()


def test_pictures_are_read_by_content_whatever_their_ending(tmp_path: Path) -> None:
    forms = {".jfif": "JPEG", ".jpe": "JPEG", ".jif": "JPEG", ".JPG": "JPEG", ".tif": "TIFF", ".dib": "BMP"}
    forms |= {".bin": "PNG", ".apng": "PNG", ".image": "GIF", ".png": "WEBP", "": "PNG", ".xyz123": "PPM"}
    for ending, form in forms.items():
        (tmp_path / f"1{ending}").write_bytes(picture(form))
    others = ["1.heic", "1.avif", "1.dcm", "1.svg", "1.ico", "1.cr2", "1.jpg.gz", "all.zip", "noise"]
    for name in others:
        (tmp_path / name).write_bytes(b"no picture that is read here")
    for name in ("labels.csv", "notes.txt", "LICENSE", "README.md", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (tmp_path / name).write_bytes(picture("PNG"))
    source = opened("folder", tmp_path, content=FieldContent(base.IMAGE_SCHEMA))
    (batch,) = source.read(source.pieces()[0])
    faults = Pixels(PixelsOptions(size=4)).embed(batch.payload).faults
    assert sorted(batch.rows) == sorted(f"{name}:0" for name in [*(f"1{ending}" for ending in forms), *others])
    assert sorted(batch.rows[row] for row in faults) == sorted(f"{name}:0" for name in others)


def test_init_takes_no_label_from_a_folder_without_pictures(tmp_path: Path) -> None:
    for name in ("cat/1.jfif", "cafe\u0301/1", "annotations/1.xml", "raw/all.zip", ".git/1.png", "top.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    assert look(str(tmp_path), "folder").folders == ["café", "cat"]
