"""Scripts that create what benchmarks need: a folder with pairs of a public data set, and a model of GPT-2's shape."""

import csv

import fetch_data
import make_gpt2
from triptych.contracts import Example
from triptych.datasets.tables import Tables


class Pairs:
    """A data set with three pairs in each split."""

    def examples(self, split):
        """The pairs."""
        for number in range(3):
            yield Example(f"{split}-{number}", f'Document {number}, "quoted".\nTwo lines.', f"Summary {number}.\nTwo.")


def test_the_first_pairs_are_written_and_read_back(tmp_path):
    """The first pairs of each split, or all if the limit is 0, are read back from the folder unchanged."""
    counts = fetch_data.write_pairs(Pairs(), tmp_path, {"train": 2, "validation": 0, "test": 9})
    assert counts == {"train": 2, "validation": 3, "test": 3}
    for split, count in counts.items():
        assert list(Tables(path=tmp_path).examples(split)) == list(Pairs().examples(split))[:count]
    with (tmp_path / "test.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.reader(file)) == ["id", "article", "highlights"]


def test_a_data_set_that_is_not_there_is_one_message(tmp_path, monkeypatch, capsys):
    """Without the Hub the script ends with status 2 and a remedy, not with a traceback."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.argv", ["fetch_data.py", str(tmp_path / "out"), "--name", "nobody/nothing"])
    assert fetch_data.main() == 2
    assert "'nobody/nothing'" in capsys.readouterr().err


def test_the_model_has_the_shape_that_it_says(tmp_path, tokenizer):
    """With one layer: embeddings, one block and final norm of GPT-2 small; the weights depend on the seed."""
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    for seed in (0, 1):
        count = make_gpt2.write_model(tmp_path / str(seed), str(tmp_path / "tokenizer"), layers=1, seed=seed)
        assert count == 50_257 * 768 + 1_024 * 768 + 7_087_872 + 2 * 768
    assert (tmp_path / "0/model.safetensors").read_bytes() != (tmp_path / "1/model.safetensors").read_bytes()
