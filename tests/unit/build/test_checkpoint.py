"""What the factory reads, and what it refuses before it writes anything."""

import json

import ml_dtypes
import numpy as np
import pytest

from engines.build import build
from engines.build.checkpoint import Checkpoint
from engines.errors import CheckpointError, UnsupportedModel
from tests.unit.build.conftest import GOLDEN
from tests.unit.golden.rows import Rows

WEIGHT = "model.layers.1.self_attn.k_proj.weight"


def refused(folder, error=CheckpointError):
    """The message, having checked that nothing was written."""
    out = folder.parent / "out" / "engine"
    with pytest.raises(error) as caught:
        build(folder, out)
    assert not out.parent.exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("glm", {"model_type": "llama"}, ["model_type 'llama'", "glm4_moe_lite"]),
        ("glm", {"model_type": None}, ["model_type None"]),
        ("glm", {"hidden_act": "gelu"}, ["hidden_act", "'gelu'", "'silu'"]),
        ("glm", {"quantization_config": {"quant_method": "awq"}}, ["quantization_config", "unquantized"]),
        ("glm", {"rope_parameters": {"rope_type": "longrope"}}, ["rope_type = 'longrope'", "'yarn'"]),
        ("glm", {"rope_scaling": "yarn"}, ["rope_scaling = 'yarn'", "object"]),
        ("glm4-moe", {"scoring_func": "softmax"}, ["scoring_func", "'sigmoid'"]),
        ("glm4-moe", {"topk_method": "greedy"}, ["topk_method", "'noaux_tc'"]),
    ],
)
def test_what_is_not_built_is_named(copy, name, changes, words):
    one = copy(name)
    one.config |= changes
    message = refused(one.write(), UnsupportedModel)
    assert all(word in message for word in words)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("glm", {"hidden_size": "64"}, ["hidden_size is '64'", "positive integer"]),
        ("glm", {"num_hidden_layers": 0}, ["num_hidden_layers is 0"]),
        ("glm", {"rms_norm_eps": "small"}, ["rms_norm_eps", "number"]),
        ("glm", {"attention_bias": 1}, ["attention_bias", "true or false"]),
        ("glm", {"num_key_value_heads": 3}, ["num_attention_heads 4", "num_key_value_heads 3"]),
        ("glm", {"rope_parameters": {"partial_rotary_factor": 2.0}}, ["partial_rotary_factor"]),
        ("glm4-moe", {"num_experts_per_tok": 9}, ["9 of 8 experts"]),
        ("glm4-moe", {"mlp_layer_types": ["dense"]}, ["mlp_layer_types is ['dense']", "a list of 3"]),
        ("glm4-moe", {"mlp_layer_types": 3}, ["mlp_layer_types is 3", "a list of 3"]),
        ("glm4-moe", {"mlp_layer_types": [["dense"], "sparse", "sparse"]}, ["mlp_layer_types", "'sparse'"]),
        (
            "glm4-moe",
            {"mlp_layer_types": None, "first_k_dense_replace": "1"},
            ["first_k_dense_replace is '1'"],
        ),
        ("glm4-moe", {"n_shared_experts": -1}, ["n_shared_experts is -1", "0 or a positive"]),
        ("glm", {"rms_norm_eps": -1}, ["rms_norm_eps is -1", "above 0"]),
        ("glm", {"rms_norm_eps": float("nan")}, ["rms_norm_eps is nan", "number"]),
        ("glm", {"rms_norm_eps": 10**400}, ["rms_norm_eps is 1000", "number"]),
    ],
)
def test_wrong_values_are_named(copy, name, changes, words):
    one = copy(name)
    one.config |= changes
    message = refused(one.write())
    assert all(word in message for word in words)


def test_yarn_lengthens_the_context_that_was_trained(copy):
    one = copy()
    one.config["rope_scaling"] = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
    assert Checkpoint(one.write()).config.context == 1024
    one.config["max_position_embeddings"] = 2048
    assert Checkpoint(one.write()).config.context == 2048
    one.config["rope_scaling"]["type"] = "linear"
    one.config["max_position_embeddings"] = 256
    assert Checkpoint(one.write()).config.context == 256


def test_eos_of_the_wrong_type(copy):
    one = copy()
    folder = one.write()
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": "<|user|>"}))
    assert "generation_config.json: eos_token_id is '<|user|>'" in refused(folder)
    (folder / "generation_config.json").unlink()
    one.config["eos_token_id"] = [1, -1]
    (folder / "config.json").write_text(json.dumps(one.config))
    assert refused(folder).startswith("config.json: eos_token_id is [1, -1]")


def test_missing_tensors(copy):
    one = copy()
    del one.tensors[WEIGHT]
    assert WEIGHT in refused(one.write())


def test_tensors_of_another_shape(copy):
    one = copy()
    one.tensors[WEIGHT] = one.tensors[WEIGHT][:-1].copy()
    message = refused(one.write())
    assert WEIGHT in message and "[31, 64]" in message and "[32, 64]" in message


def test_tensors_of_another_dtype(copy):
    one = copy()
    one.tensors[WEIGHT] = one.tensors[WEIGHT].astype(np.int8)
    message = refused(one.write())
    assert WEIGHT in message and "I8" in message and "BF16" in message


@pytest.mark.parametrize(
    ("name", "wrong", "options"),
    [
        (WEIGHT, np.nan, {}),
        (WEIGHT, -np.inf, {"precision": "int8"}),
        ("model.norm.weight", np.inf, {}),
        ("model.embed_tokens.weight", np.nan, {"precision": "int4", "calibration": [[5] * 40]}),
    ],
)
def test_weights_that_are_not_finite(copy, tmp_path, name, wrong, options):
    one = copy()
    one.tensors[name][5, ...] = wrong
    with pytest.raises(CheckpointError, match=f"{name} has NaN or infinity .* download"):
        build(one.write(), tmp_path / "engine", **options)
    assert not (tmp_path / "engine").exists()


def test_tensors_nobody_would_read(copy):
    one = copy()
    name = "model.layers.0.self_attn.q_norm.weight"
    one.tensors[name] = np.ones(16, np.float32)
    assert name in refused(one.write(), UnsupportedModel)
    del one.tensors[name]
    one.tensors["model.layers.3.embed_tokens.weight"] = np.ones(16, np.float32)  # a layer that only drafts
    Checkpoint(one.write())


@pytest.mark.parametrize("keep", [4, 100, -10])
def test_truncated_shards(copy, keep):
    folder = copy().write(shards=3)
    shard = folder / "model-00002-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:keep])
    message = refused(folder)
    assert shard.name in message and "truncated" in message


@pytest.mark.parametrize(
    ("shape", "offsets"),
    [("[1e308, 4]", "[0, 8]"), ("[-1, -2]", "[0, 8]"), ("[2.5]", "[0, 8]"),
     ("[65536, 65536, 65536, 65536]", "[0, 0]"),
     ('["2"]', "[0, 8]"), ("[2]", "[0.0, 8]"), ("[2]", "[-8, 0]"), ("[" * 5000, "[0, 8]")],
)  # fmt: skip
def test_headers_of_no_sense(copy, shape, offsets):
    folder = copy().write()
    text = f'{{"a": {{"dtype": "F32", "shape": {shape}, "data_offsets": {offsets}}}}}'.encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    assert "not a safetensors file" in refused(folder)


def test_missing_shards(copy):
    folder = copy().write(shards=2)
    (folder / "model-00001-of-00002.safetensors").unlink()
    message = refused(folder)
    assert "model-00001-of-00002.safetensors" in message and "index.json" in message


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 3}'])
def test_broken_indexes(copy, text):
    folder = copy().write(shards=2)
    (folder / "model.safetensors.index.json").write_text(text)
    assert "model.safetensors.index.json" in refused(folder)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors", "template"]
)
def test_files_that_cannot_be_read(copy, unreadable, name):
    folder = copy().write(shards=2)
    name = "chat_template.jinja" if name == "template" else name
    (folder / name).touch()
    unreadable(name)
    message = refused(folder)
    assert f"{folder / name} cannot be read" in message and "Permission denied" in message


@pytest.mark.parametrize("text", ["", "{}"])
def test_tokenizers_that_cannot_be_read(copy, text, tmp_path):
    folder = copy().write()
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read \(.*; copy it anew"):
        build(folder, tmp_path / "engine", held_out=["words"])


def test_folders_that_are_no_checkpoints(tmp_path):
    assert "not a folder" in refused(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "config.json" in refused(tmp_path / "empty")
    (tmp_path / "empty" / "config.json").write_text("{")
    assert "not JSON" in refused(tmp_path / "empty")


def logits(folder, out):
    build(folder, out)
    return np.concatenate(Rows(out, "fused", 1, 64).step([list(range(2, 34))]))


def test_shards_are_the_same_model(copy, tmp_path):
    one = copy("glm4-moe")
    whole = logits(GOLDEN / "glm4-moe", tmp_path / "whole")
    np.testing.assert_array_equal(logits(one.write(shards=3), tmp_path / "sharded"), whole)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 0.02), (ml_dtypes.bfloat16, 0.2)])
def test_half_precision_sources(copy, tmp_path, dtype, tolerance):
    """Equal to a float32 source of the same values, and near the unrounded one."""
    one = copy()
    one.tensors = {name: array.astype(dtype) for name, array in one.tensors.items()}
    found = logits(one.write(), tmp_path / "half")
    one.tensors = {name: array.astype(np.float32) for name, array in one.tensors.items()}
    np.testing.assert_array_equal(found, logits(one.write(), tmp_path / "same"))
    np.testing.assert_allclose(found, logits(GOLDEN / "glm", tmp_path / "whole"), atol=tolerance)


def test_tied_embeddings_are_found_without_being_told(copy, tmp_path):
    one = copy("glm-edge-tied")
    told = logits(one.write(), tmp_path / "told")
    del one.config["tie_word_embeddings"]
    np.testing.assert_array_equal(logits(one.write(), tmp_path / "found"), told)
    one.config["tie_word_embeddings"] = False
    assert "lm_head.weight" in refused(one.write())


def test_biases_matter(copy, tmp_path):
    """Query, key and value biases end up at their heads: moving one changes the answer, a config without them
    does not read them."""
    one = copy()
    before = logits(one.write(), tmp_path / "before")
    name = "model.layers.0.self_attn.v_proj.bias"
    one.tensors[name] = one.tensors[name] + np.float32(0.5)
    assert np.abs(logits(one.write(), tmp_path / "moved") - before).max() > 0.01
    one.config["attention_bias"] = False
    assert name in refused(one.write(), UnsupportedModel)
