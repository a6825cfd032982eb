#!/usr/bin/env python3
"""interop.py SHARDLENS: is what shardlens writes what Megatron meant? Run by run.sh.

Megatron-core trains small models and writes them at many cuts (megatron_tiny.py of the fixtures). shardlens
converts each; torch, safetensors and transformers then judge. No expected value comes from shardlens.
"""
import argparse
import contextlib
import copy
import filecmp
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.join(HERE, "..", "fixtures")
sys.path[:0] = [HERE, FIXTURES]

import torch
import transformers
from transformers.utils import logging as transformers_logging
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hf_expect import hf_state, raw, write_hf_folder
from megatron_tiny import (Cut, Model, build, dist_checkpointing, enter, make_base, make_cut, on_ranks, parallel_state,
                           rank_folder, te_names)
import dist
import distread
import families
import latent
import moe
from merge import load_ranks, merge, shard_folder

TOLERANCE = 1e-5                # of logits in fp32, against the Megatron model
LENS = None
transformers_logging.disable_progress_bar()


# --- keeping count ---------------------------------------------------------------------------------

class Tally:
    passed = failed = 0
    notes = []

    @classmethod
    @contextlib.contextmanager
    def check(cls, row, what):
        """Counts one check; inside, assert or raise."""
        try:
            yield
        except Exception as e:
            cls.failed += 1
            row.bad.append(f"{what}: {type(e).__name__ if not isinstance(e, AssertionError) else ''} {e}".strip())
        else:
            cls.passed += 1
            row.good.append(what)


TO_MEGATRON, TO_HF = "to Megatron", "to Hugging Face"


class Row:
    """One line of what is printed on the way; and, of a family's conversions, a line of the table at the end."""
    table = {}

    def __init__(self, model, case):
        self.model, self.case, self.good, self.bad, self.note = model, case, [], [], ""
        self.about = None

    def proves(self, family, layout, directions, how):
        """This row shows that the family is converted right at this layout, in these directions, and how that is known."""
        self.about = family, layout, directions, how

    def done(self):
        if self.about:
            family, layout, directions, how = self.about
            line = Row.table.setdefault((family, layout), {})
            for direction in directions:
                state = "FAIL" if self.bad else how
                line[direction] = state if line.get(direction) in (None, state) or self.bad else f"{line[direction]}; {how}"
        state = "FAIL" if self.bad else "ok"
        print(f"{state:4} {self.model:10} {self.case:26} {len(self.good):3} checks  {self.note}", flush=True)
        for line in self.bad:
            print(f"       {line[:600]}", flush=True)


def print_table():
    """family x layout x direction, and how each is known to be right."""
    print("\nfamily x layout x direction")
    families = {}
    for (family, layout), line in Row.table.items():
        families.setdefault(family, []).append((layout, line))
    for family in sorted(families):
        for layout, line in families[family]:
            for direction in (TO_MEGATRON, TO_HF):
                print(f"{family:16} {layout:22} {direction:16} {line.get(direction, '-')}")
        for direction in (TO_MEGATRON, TO_HF):
            layouts = [layout for layout, line in families[family] if line.get(direction, "FAIL") != "FAIL"]
            if len(layouts) < 2:
                Tally.failed += 1
                print(f"FAIL {family}: {direction} is proven at {len(layouts)} layouts; two are wanted")


def lens(*args, want=0):
    """Run shardlens; complain unless it exits with `want`."""
    done = subprocess.run([LENS, *map(str, args)], capture_output=True, text=True, timeout=300)
    if want is not None and done.returncode != want:
        command = " ".join(map(str, ["shardlens", *args]))
        raise AssertionError(f"exit {done.returncode}, not {want}: {command}: {(done.stderr or done.stdout).strip()[-400:]}")
    return done


# --- what must be there ------------------------------------------------------------------------------

def read_weights(folder):
    """All tensors of an HF folder through the real safetensors package: {name: tensor}, {name: file}"""
    state, place = {}, {}
    for file in sorted(pathlib.Path(folder).glob("*.safetensors")):
        with safe_open(file, "pt") as f:
            assert f.metadata() == {"format": "pt"}, f"{file.name}: metadata is {f.metadata()}"
            for name in f.keys():
                assert name not in state, f"{name} is in two files"
                state[name], place[name] = f.get_tensor(name), file.name
    return state, place


def same_tensors(have, want):
    missing, extra = sorted(set(want) - set(have)), sorted(set(have) - set(want))
    assert not missing and not extra, f"missing {missing[:4]} unexpected {extra[:4]}"
    for name, tensor in want.items():
        got = have[name]
        assert got.dtype == tensor.dtype, f"{name} is {got.dtype}, not {tensor.dtype}"
        assert got.shape == tensor.shape, f"{name} is {list(got.shape)}, not {list(tensor.shape)}"
        if raw(got) != raw(tensor):
            rows = (got.float() != tensor.float()).reshape(got.shape[0], -1).any(1).nonzero().flatten().tolist()
            raise AssertionError(f"{name} differs in {len(rows)} rows, first {rows[:5]}")


def same_as_reference_writer(folder):
    """Every file is, byte for byte, what safetensors' own writer makes of the same tensors."""
    with tempfile.TemporaryDirectory() as temp:
        for file in sorted(pathlib.Path(folder).glob("*.safetensors")):
            again = os.path.join(temp, file.name)
            save_file(load_file(file), again, metadata={"format": "pt"})
            assert filecmp.cmp(file, again, shallow=False), f"{file.name} is laid out differently"


def index_is_right(folder, state, place):
    index = os.path.join(folder, "model.safetensors.index.json")
    files = sorted(set(place.values()))
    if len(files) == 1:
        assert files == ["model.safetensors"], files
        assert not os.path.exists(index), "an index for one file"
        return
    assert files == [f"model-{i:05d}-of-{len(files):05d}.safetensors" for i in range(1, len(files) + 1)], files
    content = json.load(open(index))
    assert content["weight_map"] == place, "weight_map"
    total = sum(t.nbytes for t in state.values())
    assert content["metadata"]["total_size"] == total, (content["metadata"], total)


def config_is_right(model, folder, dtype=None):
    config = json.load(open(os.path.join(folder, "config.json")))
    want = dict(
        hidden_size=model.hidden, intermediate_size=model.ffn, num_hidden_layers=model.layers,
        num_attention_heads=model.heads, num_key_value_heads=model.groups, vocab_size=model.vocab,
        rms_norm_eps=model.eps, tie_word_embeddings=model.tied, hidden_act="silu",
        max_position_embeddings=model.positions)
    if model.head_dim * model.heads != model.hidden:
        want["head_dim"] = model.head_dim
    if model.dim_model_base:
        want.update(scale_emb=model.scale_emb, scale_depth=model.scale_depth, dim_model_base=model.dim_model_base,
                    model_type="minicpm", architectures=["MiniCPMForCausalLM"])
    elif model.qkv_bias:
        want.update(model_type="qwen2", architectures=["Qwen2ForCausalLM"])
    else:
        want.update(model_type="llama", architectures=["LlamaForCausalLM"])
    for key, value in want.items():
        assert key in config, f"no {key}"
        assert config[key] == value and type(config[key]) in (type(value), int, float), f"{key} is {config[key]!r}, not {value!r}"
    theta = config.get("rope_theta", (config.get("rope_parameters") or {}).get("rope_theta"))
    assert theta == model.theta, f"rope_theta is {theta}, not {model.theta}"
    name = str(dtype or model.dtype).removeprefix("torch.")
    assert name in (config.get("torch_dtype"), config.get("dtype")), f"dtype is {config.get('torch_dtype')}, not {name}"
    return config


LLAMA_KEYS = ("vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
              "max_position_embeddings rms_norm_eps rope_theta rope_parameters rope_scaling tie_word_embeddings hidden_act "
              "attention_bias mlp_bias bos_token_id eos_token_id").split()


def load_hf(folder):
    """The transformers model of a folder in fp32, strictly. MiniCPM: LlamaForCausalLM with the three scalings that
    config.json states (transformers has no class for it); Llama and Qwen2: what AutoConfig says."""
    content = json.load(open(os.path.join(folder, "config.json")))
    scaled = content.get("model_type") == "minicpm"
    if scaled:
        cls = transformers.LlamaForCausalLM
        config = transformers.LlamaConfig(**{k: content[k] for k in LLAMA_KEYS if k in content})
    else:
        config = transformers.AutoConfig.from_pretrained(folder)
        cls = getattr(transformers, config.architectures[0])
    model, info = cls.from_pretrained(folder, config=config, dtype=torch.float32, output_loading_info=True,
                                      attn_implementation="eager")
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info.get(kind), f"{kind}: {sorted(info[kind])[:4]}"
    if scaled:
        depth = content["scale_depth"] / math.sqrt(content["num_hidden_layers"])
        width = content["hidden_size"] / content["dim_model_base"]
        model.model.embed_tokens.register_forward_hook(lambda m, i, out: out * content["scale_emb"])
        for layer in model.model.layers:
            for branch in (layer.self_attn.o_proj, layer.mlp.down_proj):
                branch.register_forward_hook(lambda m, i, out: out * depth)
        model.model.norm.register_forward_hook(lambda m, i, out: out / width)
    return model.eval()


def same_logits(folder, forward, vocab):
    model = load_hf(folder)
    tokens = forward["tokens"]
    with torch.no_grad():
        logits = model(input_ids=tokens).logits[..., :vocab].float()
    apart = (logits - forward["logits"]).abs().max().item()
    loss = torch.nn.functional.cross_entropy(logits[:, 1:-1].reshape(-1, vocab), tokens[:, 2:].reshape(-1)).item()
    assert apart <= TOLERANCE, f"logits differ by {apart:.2e}, loss {loss:.4f} against {forward['loss'].item():.4f}"
    assert abs(loss - forward["loss"].item()) <= TOLERANCE, f"loss {loss} against {forward['loss'].item()}"
    return apart, loss


def report_is_right(path, state):
    report = json.load(open(path))
    rows = {row["name"]: row for row in report["tensors"]}
    assert set(rows) == set(state), f"report has {len(rows)} tensors, the files {len(state)}"
    for name, tensor in state.items():
        row, values = rows[name], tensor.double()
        assert row["shape"] == list(tensor.shape), f"{name} shape {row['shape']}"
        assert row["bytes"] == tensor.nbytes, f"{name} bytes {row['bytes']}"
        assert row["nan"] == 0 and row["inf"] == 0, f"{name} nan {row['nan']} inf {row['inf']}"
        for key, value in (("min", values.min()), ("max", values.max()), ("mean", values.mean())):
            assert math.isclose(row[key], value.item(), rel_tol=1e-6, abs_tol=1e-9), f"{name} {key} {row[key]} {value.item()}"
        assert row["sources"], f"{name} has no sources"
    assert report["summary"]["tensors"] == len(state), report["summary"]
    assert report["summary"]["bytes"] == sum(t.nbytes for t in state.values()), report["summary"]
    assert report["summary"]["verified"], report["summary"]


# --- one conversion ----------------------------------------------------------------------------------

class Family:
    """A trained model: its weights, its logits, its HF folder."""

    def __init__(self, model, base, hf):
        self.model, self.base, self.hf = model, base, hf
        self.full = torch.load(os.path.join(base, "full.pt"))
        self.forward = torch.load(os.path.join(base, "forward.pt"))
        self.want = hf_state(model, self.full)


def judge(row, family, dst, options=(), cast=None):
    """All checks of an HF folder that shardlens wrote."""
    model = family.model
    want = {k: t.to(cast) for k, t in family.want.items()} if cast else family.want
    state = {}
    with Tally.check(row, "safetensors opens it"):
        state, place = read_weights(dst)
    with Tally.check(row, "every tensor bit-equal"):
        same_tensors(state, want)
    with Tally.check(row, "written as the reference writer"):
        same_as_reference_writer(dst)
    with Tally.check(row, "index"):
        index_is_right(dst, state, place)
    with Tally.check(row, "config.json"):
        config = config_is_right(model, dst, cast)
        if model.dim_model_base:
            assert ("auto_map" in config) == ("--hf-config" in options), "auto_map belongs there exactly when the code files do"
    if "--hf-config" in options:
        with Tally.check(row, "files carried over byte for byte"):
            for name in sorted(set(os.listdir(family.hf)) - {"config.json"}):
                there = os.path.join(dst, name)
                assert os.path.exists(there), f"{name} is not there"
                assert filecmp.cmp(os.path.join(family.hf, name), there, shallow=False), f"{name} is not the same bytes"
    if not cast or cast == torch.float32:
        with Tally.check(row, "transformers: same logits and loss"):
            apart, loss = same_logits(dst, family.forward, model.vocab)
            row.note = f"logits within {apart:.1e}, loss {loss:.4f}"
    with Tally.check(row, "report"):
        report_is_right(os.path.join(dst, "shardlens-report.json"), state)


def of_family(model):
    return ["minicpm" if model.dim_model_base else "qwen2" if model.qkv_bias else "llama"]


def convert(family, case, src, work, *options, cast=None, compare=True):
    row, dst = Row(family.model.family, case), os.path.join(work, "out", f"{family.model.family}-{case}".replace(" ", "_"))
    if case.startswith("tp"):
        row.proves(*of_family(family.model), case, [TO_HF], "trained and saved by Megatron-core; bits, logits")
    shutil.rmtree(dst, ignore_errors=True)
    with Tally.check(row, "convert"):
        lens("convert", src, dst, "--to", "hf", "--progress", "none", *options)
    if os.path.exists(dst):
        judge(row, family, dst, options, cast)
        if compare:
            with Tally.check(row, "verify says equal"):
                lens("verify", src, dst, "--progress", "none", *keep_set(options))
    row.done()
    return dst


def keep_set(options):
    """The options that say what a source does not tell: verify and inspect need them too."""
    out = []
    for i, o in enumerate(options):
        if o in ("--set", "--model", "--hf-config"):
            out += options[i:i + 2]
    return out


# --- the models and their cuts -------------------------------------------------------------------------

def models():
    llama = Model("llama", layers=5, hidden=96, ffn=164, heads=8, groups=2, head_dim=18, vocab=301, divisible_by=16,
                  tied=False, dtype=torch.float32, theta=500000, positions=128)
    minicpm = Model("minicpm", layers=4, hidden=72, ffn=102, heads=6, groups=6, head_dim=12, vocab=257, divisible_by=1,
                    tied=True, dtype=torch.bfloat16, eps=1e-6, positions=128, scale_emb=12.0, scale_depth=1.4,
                    dim_model_base=24, seed=2)
    small = Model("minicpm-gqa", layers=4, hidden=30, ffn=44, heads=6, groups=2, head_dim=6, vocab=71, divisible_by=1,
                  tied=True, dtype=torch.float32, eps=1e-6, scale_emb=12.0, scale_depth=1.4, dim_model_base=10, seed=2)
    half = Model("llama-fp16", layers=3, hidden=40, ffn=52, heads=4, groups=4, head_dim=14, vocab=83, divisible_by=8,
                 tied=True, dtype=torch.float16, seed=5)
    return llama, minicpm, small, half


def cuts_of(model):
    """case -> (Cut, how)"""
    if model.family == "llama":
        cuts = {f"tp{t} pp{p}": (Cut(t, p, first_stage=3 if p == 2 else None), {}) for t in (1, 2, 4) for p in (1, 2)}
        cuts |= {
            "tp1 pp5": (Cut(1, 5), {}),
            "tp2 pp2 vpp2 uneven": (Cut(2, 2, vpp=2, layout="Et|tt|t|tL"), {}),
            "tp2 pp2 te names": (Cut(2, 2, first_stage=2), dict(te_names=True)),
            "tp2 one buffer": (Cut(2), dict(one_buffer=True)),
            "tp2 pp2 no zip": (Cut(2, 2, first_stage=1), dict(no_zip=True)),
            "tp2 optimizer": (Cut(2), dict(optimizer=True)),
            "tp2 release": (Cut(2), dict(release=True, iteration=0)),
            "tp4 pp2 protocol 4": (Cut(4, 2, first_stage=3), dict(protocol=4, iteration=1234567)),
        }
    elif model.family == "minicpm":
        cuts = {f"tp{t} pp{p}": (Cut(t, p), {}) for t in (1, 2, 3) for p in (1, 2)}
        cuts |= {"tp2 pp2 vpp2": (Cut(2, 2, vpp=2), {}), "tp1 pp4": (Cut(1, 4), {}),
                 "tp2 pp2 te names": (Cut(2, 2), dict(te_names=True)),
                 "tp2 pp2 one buffer": (Cut(2, 2), dict(one_buffer=True))}
    else:
        cuts = {"tp1 pp1": (Cut(), {}), "tp2 pp2": (Cut(2, 2, first_stage=1), {})}
    return cuts


def known(model):
    """What a checkpoint without args does not tell, as --set."""
    facts = dict(num_attention_heads=model.heads, num_query_groups=model.groups, kv_channels=model.head_dim,
                 vocab_size=model.vocab, layernorm_epsilon=model.eps, rotary_base=model.theta,
                 max_position_embeddings=model.positions)
    if model.dim_model_base:
        facts.update(scale_emb=model.scale_emb, scale_depth=model.scale_depth, dim_model_base=model.dim_model_base)
    return [x for key, value in facts.items() for x in ("--set", f"{key}={value}")]


def run_model(model, work):
    base = os.path.join(work, "base", model.family)
    losses = make_base(model, base)
    hf = os.path.join(work, "hf", model.family)
    write_hf_folder(model, hf)
    family = Family(model, base, hf)
    print(f"\n{model.family}: {model.layers} layers, hidden {model.hidden}, {str(model.dtype)[6:]}; "
          f"loss {losses[0]:.3f} -> {losses[-1]:.3f}", flush=True)

    # the judge judged: the expected weights, put into transformers, give Megatron's logits
    row = Row(model.family, "the expectation itself")
    with tempfile.TemporaryDirectory() as temp, Tally.check(row, "expected weights give Megatron's logits"):
        save_file(family.want, os.path.join(temp, "model.safetensors"), metadata={"format": "pt"})
        shutil.copy(os.path.join(hf, "config.json"), temp)
        apart, loss = same_logits(temp, family.forward, model.vocab)
        row.note = f"logits within {apart:.1e}, loss {loss:.4f}"
    row.done()

    saves, args = {}, None
    for case, (cut, how) in cuts_of(model).items():
        src = os.path.join(work, "megatron", model.family, case.replace(" ", "_"))
        make_cut(model, cut, base, src, **how)
        saves[case] = src
        ranks = load_ranks(src)
        args = args or ranks[0, 0]["args"]
        row = Row(model.family, case)
        with Tally.check(row, "shards merged by torch give the expectation"):
            same_tensors(merge(ranks, args), family.want)
        if row.bad:
            row.done()
        convert(family, case, src, work)
    if model.family in ("llama", "minicpm"):
        distread.run(family, args, work, sys.modules[__name__])
    more_of(family, saves, work)


def more_of(family, saves, work):
    model, src = family.model, saves["tp2 pp2"]
    with_hf = convert(family, "hf-config", src, work, "--hf-config", family.hf)
    convert(family, "iter folder", shard_folder(src), work)
    convert(family, "small shards", src, work, "--max-shard-size", "40KB" if model.hidden > 40 else "9KB")
    one = convert(family, "one thread", src, work, "--threads", "1", "--memory", "64MB", "--hf-config", family.hf)
    row = Row(model.family, "threads do not matter")
    with Tally.check(row, "same bytes from one thread"):
        for name in os.listdir(with_hf):
            if name != "shardlens-report.json":
                assert filecmp.cmp(os.path.join(with_hf, name), os.path.join(one, name), shallow=False), name
    row.done()
    for word, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)):
        if dtype != model.dtype:
            convert(family, f"--dtype {word}", src, work, "--dtype", word, cast=dtype, compare=False)
    into_megatron(family, saves, work)
    if model.family in ("llama", "minicpm"):
        dist.run_dense(family, {"HF": [os.path.join(work, "hf_source", model.family)], "tp2 pp2": [src],
                                "Megatron's own": [os.path.join(family.base, "dist"), *known(model)]}, work, lens, Tally, Row)
    without_args(family, work)
    inspect(family, src)
    broken(family, src, work)


# --- the other way: into Megatron ----------------------------------------------------------------------

def rank_errors(rank, model, cut, base, src, te):
    """Load this rank's file into Megatron's module of that rank, strictly, and compare with what Megatron itself
    puts there from its own distributed checkpoint. Padding rows must be zero. Returns all ranks' complaints."""
    enter(cut)
    chunks, errors = build(model, cut), []
    tp_rank, pp_rank = parallel_state.get_tensor_model_parallel_rank(), parallel_state.get_pipeline_model_parallel_rank()
    place = rank_folder(cut, tp_rank, pp_rank)
    names = ["model"] if len(chunks) == 1 else [f"model{i}" for i in range(len(chunks))]
    truth = dist_checkpointing.load({n: c.sharded_state_dict(metadata={}) for n, c in zip(names, chunks)},
                                    os.path.join(base, "dist"))
    try:
        content = torch.load(os.path.join(shard_folder(src), place, "model_optim_rng.pt"), weights_only=False)
        assert content["checkpoint_version"] == 3.0, content["checkpoint_version"]
        for key, value in dict(num_layers=model.layers, hidden_size=model.hidden, ffn_hidden_size=model.ffn,
                               num_attention_heads=model.heads, kv_channels=model.head_dim,
                               tensor_model_parallel_size=cut.tp, pipeline_model_parallel_size=cut.pp,
                               padded_vocab_size=model.padded_vocab(cut.tp), swiglu=True, normalization="RMSNorm",
                               untie_embeddings_and_output_weights=not model.tied).items():
            assert getattr(content["args"], key, None) == value, f"args.{key} is {getattr(content['args'], key, None)!r}, not {value!r}"
        for name, chunk in zip(names, chunks):
            want = {k: v for k, v in truth[name].items() if isinstance(v, torch.Tensor)}
            want = te_names(want) if te else want
            have = {k: v for k, v in content[name].items() if not k.endswith("_extra_state")}
            assert set(have) == set(want), f"{name}: names differ: {sorted(set(have) ^ set(want))[:4]}"
            if not te:
                chunk.load_state_dict(content[name], strict=True)
            rows = model.padded_vocab(cut.tp) // cut.tp
            real = max(0, min(rows, model.vocab - tp_rank * rows))
            for key, tensor in have.items():
                truth_here = want[key].clone()
                if key in ("embedding.word_embeddings.weight", "output_layer.weight"):
                    truth_here[real:] = 0
                assert tensor.dtype == truth_here.dtype and tensor.shape == truth_here.shape, f"{key}: {tensor.dtype} {list(tensor.shape)}"
                assert raw(tensor) == raw(truth_here), f"{name} {key} differs"
    except Exception as e:
        errors.append(f"{place}: {type(e).__name__} {e}")
    everyone = [None] * cut.world
    torch.distributed.all_gather_object(everyone, errors)
    return [e for part in everyone for e in part]


def into_megatron(family, saves, work):
    model = family.model
    hf = os.path.join(work, "hf_source", model.family)
    os.makedirs(hf, exist_ok=True)
    save_file(family.want, os.path.join(hf, "model.safetensors"), metadata={"format": "pt"})
    shutil.copy(os.path.join(family.hf, "config.json"), hf)
    half = model.layers - model.layers // 2
    uneven = dict(first_stage=half) if model.layers % 2 else {}
    layout = ("--pp-layout", f"{half},{model.layers - half}") if uneven else ()
    cases = {"HF to tp1": (hf, Cut(), "local"), "HF to tp2 pp2": (hf, Cut(2, 2, **uneven), "local"),
             "HF to tp2 te names": (hf, Cut(2), "te"), "tp2 pp2 to tp1 pp2": (saves["tp2 pp2"], Cut(1, 2, **uneven), "local")}
    if model.groups == 2 and model.heads % 4 == 0:
        cases["HF to tp4, 2 groups"] = (hf, Cut(4), "local")
    if model.layers == 4:
        cases["HF to tp1 pp2 vpp2"] = (hf, Cut(1, 2, vpp=2), "local")
    for case, (src, cut, names) in cases.items():
        row, dst = Row(model.family, case), os.path.join(work, "out", f"{model.family}-{case}".replace(" ", "_").replace(",", ""))
        if case.startswith("HF"):
            row.proves(*of_family(model), f"tp{cut.tp} pp{cut.pp}" + (f" vpp{cut.vpp}" if cut.vpp > 1 else ""), [TO_MEGATRON],
                       "each rank as Megatron-core's own" + (", loaded strictly" if names == "local" else ""))
        shutil.rmtree(dst, ignore_errors=True)
        with Tally.check(row, "convert"):
            lens("convert", src, dst, "--to", "megatron", "--tp", cut.tp, "--pp", cut.pp, "--vpp", cut.vpp, "--names", names,
                 "--make-vocab-size-divisible-by", model.divisible_by, "--progress", "none", *(layout if cut.pp == 2 else ()))
        if os.path.exists(dst):
            with Tally.check(row, "every rank holds what Megatron puts there"):
                errors = on_ranks(cut.world, rank_errors, model, cut, family.base, dst, names == "te")
                assert not errors, "; ".join(errors[:3])
            with Tally.check(row, "verify says equal"):
                lens("verify", src, dst, "--progress", "none")
        row.done()
    for form, case in (("hf-bin", "to hf-bin"), ("pt", "to pt")):
        row, dst = Row(model.family, case), os.path.join(work, "out", f"{model.family}-{form}" + (".pt" if form == "pt" else ""))
        with Tally.check(row, "torch.load(weights_only=True), every tensor bit-equal"):
            lens("convert", saves["tp2 pp2"], dst, "--to", form, "--progress", "none", "--force")
            file = os.path.join(dst, "pytorch_model.bin") if form == "hf-bin" else dst
            same_tensors(torch.load(file, weights_only=True), family.want)
            torch.load(file, weights_only=True, mmap=True)
        row.done()


def without_args(family, work):
    """Nothing but weights: head sizes are never guessed, and --set, --hf-config or both answer."""
    model = family.model
    src = os.path.join(work, "megatron", model.family, "no_args")
    make_cut(model, Cut(2, 2, first_stage=None if model.layers % 2 == 0 else 2), family.base, src,
             no_args=True, weights_only=True, protocol=4)
    row, dst = Row(model.family, "no args: asks"), os.path.join(work, "out", "never")
    with Tally.check(row, "refuses and names what it must know"):
        done = lens("convert", src, dst, "--to", "hf", "--progress", "none", want=None)
        assert done.returncode in (2, 3), f"exit {done.returncode}"
        assert "kv_channels" in done.stderr or "num_attention_heads" in done.stderr, done.stderr.strip()
        assert not os.path.exists(dst), "left a target behind"
    shutil.rmtree(dst, ignore_errors=True)
    row.done()
    which = ("--model", "minicpm" if model.dim_model_base else "llama")
    convert(family, "no args: --set", src, work, *which, *known(model))
    convert(family, "no args: --hf-config", src, work, *which, "--hf-config", family.hf)


def inspect(family, src):
    model, row = family.model, Row(family.model.family, "inspect")
    with Tally.check(row, "inspect --json"):
        seen = json.loads(lens("inspect", src, "--json").stdout)
        want = dict(num_layers=model.layers, hidden_size=model.hidden, ffn_hidden_size=model.ffn,
                    num_attention_heads=model.heads, num_query_groups=model.groups, kv_channels=model.head_dim,
                    vocab_size=model.vocab, padded_vocab_size=model.padded_vocab(2), tie_embeddings=model.tied)
        for key, value in want.items():
            assert seen["config"].get(key) == value, f"config {key} is {seen['config'].get(key)!r}, not {value!r}"
        assert seen["container"] == "megatron-torch", seen["container"]
        assert seen["family"] == ("minicpm" if model.dim_model_base else "llama"), seen["family"]
        assert (seen["parallel"]["tp"], seen["parallel"]["pp"]) == (2, 2), seen["parallel"]
        assert seen["iteration"] == 10 and seen["checkpoint_version"] == 3.0, (seen["iteration"], seen["checkpoint_version"])
        params = sum(t.numel() for t in family.want.values())
        assert seen["params"] == params, f"params {seen['params']}, not {params}"
        assert len(seen["ranks"]) == 4 and all(r["status"] == "ok" for r in seen["ranks"]), seen["ranks"]
        errors = [p for p in seen["problems"] if p["severity"] == "error"]
        assert not errors, errors
    with Tally.check(row, "check --deep finds nothing wrong"):
        lens("check", src, "--deep", "--progress", "none")
    row.done()


def broken(family, src, work):
    """A set of shards that is not whole gives exit 3, one line that names what is wrong, and no target."""
    spoil = os.path.join(work, "spoiled")

    def refuse(case, change, *words):
        shutil.rmtree(spoil, ignore_errors=True)
        shutil.copytree(src, spoil)
        change(pathlib.Path(shard_folder(spoil)))
        row, dst = Row(family.model.family, case), os.path.join(work, "out", "never")
        with Tally.check(row, "exit 3, named, no target"):
            done = lens("convert", spoil, dst, "--to", "hf", "--progress", "none", want=3)
            for word in words:
                assert word in done.stderr, f"{word!r} is not in: {done.stderr.strip()}"
            assert not os.path.exists(dst), "left a target behind"
        shutil.rmtree(dst, ignore_errors=True)
        row.done()

    def cut(folder):
        file = folder / "mp_rank_01_001" / "model_optim_rng.pt"
        file.write_bytes(file.read_bytes()[:-5000])

    refuse("rank missing", lambda f: shutil.rmtree(f / "mp_rank_01_000"), "mp_rank_01_000")
    refuse("stage missing", lambda f: [shutil.rmtree(f / f"mp_rank_0{t}_001") for t in (0, 1)], "_001")
    refuse("shard cut short", cut, "mp_rank_01_001")

    def other_norm(folder):
        """One rank's copy of a replicated norm differs: the ranks drifted apart."""
        file = folder / "mp_rank_01_000" / "model_optim_rng.pt"
        content = torch.load(file, weights_only=False)
        content["model"]["decoder.layers.0.input_layernorm.weight"][3] += 0.25
        torch.save(content, file)

    shutil.rmtree(spoil, ignore_errors=True)
    shutil.copytree(src, spoil)
    other_norm(pathlib.Path(shard_folder(spoil)))
    row = Row(family.model.family, "replicas differ")
    with Tally.check(row, "check --deep finds it"):
        done = lens("check", spoil, "--deep", "--progress", "none", want=1)
        assert "input_layernorm" in done.stdout + done.stderr, (done.stdout + done.stderr).strip()[-300:]
    row.done()


# --- Qwen-like bias, and shardlens' own sample -----------------------------------------------------------

def run_bias(work):
    model = Model("qkv_bias", layers=2, hidden=24, ffn=28, heads=4, groups=2, head_dim=8, vocab=61, divisible_by=4,
                  tied=False, dtype=torch.float32, theta=1000000, qkv_bias=True, seed=3)
    base, hf = os.path.join(work, "base", model.family), os.path.join(work, "hf", model.family)
    make_base(model, base)
    write_hf_folder(model, hf)
    family = Family(model, base, hf)
    src = os.path.join(work, "megatron", model.family)
    make_cut(model, Cut(2, 2), base, src)
    print(f"\n{model.family}: bias on q, k, v")
    row, dst = Row(model.family, "tp2 pp2"), os.path.join(work, "out", "bias")
    done = lens("convert", src, dst, "--to", "hf", "--hf-config", hf, "--progress", "none", want=None)
    if done.returncode == 0:
        judge(row, family, dst, ("--hf-config",))
    else:
        with Tally.check(row, "says that it cannot (exit 4), naming the bias"):
            assert done.returncode == 4 and "bias" in done.stderr, f"exit {done.returncode}: {done.stderr.strip()}"
            row.note = "not supported, said so"
    row.done()


def run_demo(work):
    print("\nshardlens demo")
    torch.serialization.add_safe_globals([argparse.Namespace])
    for case, options in {"default": [], "llama tp2 pp2": ["--family", "llama", "--tp", "2", "--pp", "2"],
                          "minicpm tp2": ["--family", "minicpm", "--tp", "2", "--pp", "1"]}.items():
        row = Row("demo", case)
        src, dst = (os.path.join(work, "demo", case.replace(" ", "_") + end) for end in ("", "_hf"))
        ranks = {}
        with Tally.check(row, "demo"):
            os.makedirs(os.path.dirname(src), exist_ok=True)
            lens("demo", src, *options)
        with Tally.check(row, "sound zip archives"):
            files = sorted(pathlib.Path(src).rglob("model_optim_rng.pt"))
            assert files, "no model_optim_rng.pt"
            for file in files:
                assert zipfile.ZipFile(file).testzip() is None, file
        with Tally.check(row, "torch.load(weights_only=True), mmap too"):
            for file in files:
                torch.load(file, weights_only=True)
                torch.load(file, weights_only=True, mmap=True)
        with Tally.check(row, "convert: as torch merges it"):
            lens("convert", src, dst, "--to", "hf", "--progress", "none")
            state, _ = read_weights(dst)
            ranks = load_ranks(src)
            args = copy.copy(ranks[0, 0]["args"])
            args.vocab_size = getattr(args, "vocab_size", None) or json.load(open(os.path.join(dst, "config.json")))["vocab_size"]
            same_tensors(state, merge(ranks, args))
        with Tally.check(row, "transformers loads it"):
            load_hf(dst)
        row.done()


def main():
    global LENS
    LENS = sys.argv[1]
    keep = os.environ.get("INTEROP_KEEP")
    with contextlib.ExitStack() as stack:
        work = keep or stack.enter_context(tempfile.TemporaryDirectory(prefix="shardlens-interop-"))
        os.makedirs(work, exist_ok=True)
        print(f"torch {torch.__version__}, transformers {transformers.__version__}; {LENS}")
        for model in models():
            run_model(model, work)
        run_bias(work)
        dist.run_large(work, lens, Tally, Row)
        moe.run(work, lens, Tally, Row)
        latent.run(work, lens, Tally, Row)
        families.run(work, lens, Tally, Row)
        run_demo(work)
    print_table()
    print(f"\n{Tally.passed} passed, {Tally.failed} failed")
    sys.exit(1 if Tally.failed else 0)


if __name__ == "__main__":
    main()
