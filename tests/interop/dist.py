"""torch_dist: what shardlens writes is read by torch.distributed.checkpoint, every array bit-equal to what Megatron-core itself
saves, and loaded by megatron.core.dist_checkpointing into GPTModel at other TP x PP x EP, strictly: nothing missing, nothing
unexpected. Then the logits are those of the source."""
import os
import shutil

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from hf_expect import raw
from megatron_tiny import Cut, build, config_of, dist_checkpointing, enter, on_ranks, parallel_state, scale_like_minicpm
from megatron.core.dist_checkpointing.validation import StrictHandling

VOCABULARY = ("embedding.word_embeddings.weight", "output_layer.weight")
NEAR = 1e-4                     # of logits in fp32
CUTS = {f"tp{t} pp{p}": Cut(t, p) for t in (1, 2) for p in (1, 2)}


def iteration_folder(root):
    with open(os.path.join(root, "latest_checkpointed_iteration.txt")) as f:
        name = f.read().strip()
    return os.path.join(root, name if name == "release" else f"iter_{int(name):07d}")


# --- one rank's part of a checkpoint, of either format, for moe.py and latent.py ----------------------------

def is_dist(folder):
    return os.path.exists(os.path.join(folder, "metadata.json"))


def rank_args(folder, place, cut):
    """The args that shardlens wrote. A distributed checkpoint may be loaded at any cut: then they are made those of this
    one, the padding of the vocabulary too."""
    if not is_dist(folder):
        return torch.load(os.path.join(folder, place, "model_optim_rng.pt"), weights_only=False)["args"]
    args = torch.load(os.path.join(folder, "common.pt"), weights_only=False)["args"]
    assert args.ckpt_format == "torch_dist", args.ckpt_format
    (args.tensor_model_parallel_size, args.pipeline_model_parallel_size, args.expert_model_parallel_size,
     args.expert_tensor_parallel_size) = cut
    args.world_size = torch.distributed.get_world_size()
    unit = args.make_vocab_size_divisible_by * cut[0]
    args.padded_vocab_size = -(-args.vocab_size // unit) * unit
    return args


def load_chunk(folder, place, chunk):
    """Strictly."""
    if not is_dist(folder):
        chunk.load_state_dict(torch.load(os.path.join(folder, place, "model_optim_rng.pt"), weights_only=False)["model"], strict=True)
        return
    content = dist_checkpointing.load_content_metadata(folder)
    loaded = dist_checkpointing.load({"model": chunk.sharded_state_dict(metadata=dict(content))}, folder,
                                     validate_access_integrity=True, strict=StrictHandling.RAISE_ALL)
    chunk.load_state_dict(loaded["model"], strict=True)


# --- torch ----------------------------------------------------------------------------------------------------

def arrays_of(folder):
    """All arrays, loaded by torch.distributed.checkpoint into empty tensors."""
    meta = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
    state = {k: torch.full(tuple(m.size), 7, dtype=m.properties.dtype) for k, m in meta.items() if hasattr(m, "chunks")}
    dcp.load(state, checkpoint_id=folder, no_dist=True)
    return state


def torch_reads_it(folder, want, vocab):
    """want: arrays as Megatron saved them. Rows of the vocabulary's padding are zero here and noise there."""
    have = arrays_of(folder)
    assert set(have) == set(want), f"keys differ: {sorted(set(have) ^ set(want))[:4]}"
    for key, tensor in have.items():
        truth = want[key]
        if key in VOCABULARY:
            assert not tensor[vocab:].any(), f"{key}: padding is not zero"
            tensor, truth = tensor[:vocab], truth[:vocab]
        assert tensor.dtype == truth.dtype and tensor.shape == truth.shape, f"{key}: {tensor.dtype} {list(tensor.shape)}"
        assert raw(tensor) == raw(truth), f"{key} differs"
    flat = folder + ".flat.pt"
    dcp_to_torch_save(folder, flat)
    saved = torch.load(flat, weights_only=True)
    os.remove(flat)
    for key, tensor in have.items():
        assert raw(saved[key]) == raw(tensor), f"dcp_to_torch_save: {key} differs"


def items_are_whole(folder):
    """Every item is a torch file of its own, with true checksums, and the files are of about one size."""
    import io
    import zipfile
    meta, sizes = dcp.FileSystemReader(folder).read_metadata(), {}
    for index, place in meta.storage_data.items():
        with open(os.path.join(folder, place.relative_path), "rb") as f:
            f.seek(place.offset)
            item = io.BytesIO(f.read(place.length))
        assert zipfile.ZipFile(item).testzip() is None, f"{index}: checksum"
        assert place.offset % 64 == 0, f"{index}: at {place.offset}"
        item.seek(0)
        value = torch.load(item, weights_only=True)
        assert (value == [None]) if index.offset is None else isinstance(value, torch.Tensor), f"{index}: {value}"
        sizes[place.relative_path] = sizes.get(place.relative_path, 0) + place.length
    return sizes


# --- Megatron --------------------------------------------------------------------------------------------------

def rank_loads(rank, model, cut, base, folder, strict, tokens):
    """Load into this rank's module and compare with what Megatron puts there from its own checkpoint. Returns all ranks'
    complaints, and the logits."""
    from moe import through_stages
    enter(cut)
    chunk, errors = build(model, cut)[0], []
    truth = dist_checkpointing.load({"model": chunk.sharded_state_dict(metadata={})}, os.path.join(base, "dist"))["model"]
    content = dist_checkpointing.load_content_metadata(folder)
    have = dist_checkpointing.load({"model": chunk.sharded_state_dict(metadata=dict(content))}, folder,
                                   validate_access_integrity=True, strict=strict)["model"]
    rows = model.padded_vocab(cut.tp) // cut.tp
    real = max(0, min(rows, model.vocab - parallel_state.get_tensor_model_parallel_rank() * rows))
    for key, tensor in truth.items():
        if not isinstance(tensor, torch.Tensor):
            continue
        want = tensor.clone()
        if key in VOCABULARY:
            want[real:] = 0
        if raw(have[key]) != raw(want):
            errors.append(f"rank {rank}: {key} differs")
    chunk.load_state_dict(have, strict=True)
    scale_like_minicpm(model, chunk)
    with torch.no_grad():
        logits = through_stages(chunk.to(torch.float32).eval(), tokens, config_of(model, cut))
    everyone = [None] * cut.world
    torch.distributed.all_gather_object(everyone, (errors, None if logits is None else logits[..., :model.vocab]))
    return [e for part, _ in everyone for e in part], [x for _, x in everyone if x is not None]


def megatron_loads_it(family, folder, cut, strict):
    try:
        errors, logits = on_ranks(cut.world, rank_loads, family.model, cut, family.base, folder, strict, family.forward["tokens"])
    except SystemExit as e:                          # the rank has said why
        raise AssertionError(e) from None
    assert not errors, "; ".join(errors[:3])
    apart = max((x - family.forward["logits"]).abs().max().item() for x in logits)
    assert apart <= NEAR, f"logits differ by {apart:.2e}"
    return apart


def run_dense(family, sources, work, lens, Tally, Row):
    """sources: what to convert from, and what has to be said about it, by name; the first is judged at all cuts."""
    model, want = family.model, arrays_of(os.path.join(family.base, "dist"))
    common = ("--to", "torch_dist", "--make-vocab-size-divisible-by", model.divisible_by, "--progress", "none")
    written = {}
    for n, (what, (src, *said)) in enumerate(sources.items()):
        row, dst = Row(model.family, f"{what} to torch_dist"), os.path.join(work, "dist", f"{model.family}-{n}")
        shutil.rmtree(dst, ignore_errors=True)
        with Tally.check(row, "convert"):
            lens("convert", src, dst, *common, *said, "--names", "local", "--dist-files", 1 + n)
        if not os.path.exists(dst):
            row.done()
            continue
        written[what], folder = dst, iteration_folder(dst)
        with Tally.check(row, "torch reads it, every array bit-equal"):
            torch_reads_it(folder, want, model.vocab)
        with Tally.check(row, "every item a whole torch file"):
            sizes = items_are_whole(folder)
            assert len(sizes) == 1 + n and max(sizes.values()) < 2 * min(sizes.values()), sizes
        for case, cut in CUTS.items() if n == 0 else [("tp2 pp1", CUTS["tp2 pp1"])]:
            if model.layers % cut.pp:
                cut = Cut(cut.tp, cut.pp, first_stage=model.layers - model.layers // 2)
            with Tally.check(row, f"Megatron loads it strictly at {case}"):
                apart = megatron_loads_it(family, folder, cut, StrictHandling.RAISE_ALL)
                row.note = f"logits within {apart:.1e}"
        with Tally.check(row, "verify says equal"):
            lens("verify", src, dst, "--progress", "none", *said)
        with Tally.check(row, "check --deep finds nothing wrong"):
            lens("check", dst, "--deep", "--progress", "none")
        row.done()
    again(family, written, work, lens, Tally, Row, common)


def again(family, written, work, lens, Tally, Row, common):
    """From what was written: Transformer Engine's objects, chunks in other files, and back to Hugging Face."""
    model, src = family.model, next(iter(written.values()))
    row = Row(model.family, "torch_dist to others")
    te, back = os.path.join(work, "dist", model.family + "-te"), os.path.join(work, "dist", model.family + "-hf")
    for folder in (te, back):
        shutil.rmtree(folder, ignore_errors=True)
    with Tally.check(row, "te: Megatron loads it as it does by default"):
        lens("convert", src, te, *common, "--dist-files", 5)
        megatron_loads_it(family, iteration_folder(te), Cut(), StrictHandling.ASSUME_OK_UNEXPECTED)
    with Tally.check(row, "te: torch reads the same arrays"):
        have, want = arrays_of(iteration_folder(te)), arrays_of(iteration_folder(src))
        assert set(have) == set(want) and all(raw(have[k]) == raw(want[k]) for k in want)
    with Tally.check(row, "back to Hugging Face, bit for bit"):
        lens("convert", te, back, "--to", "hf", "--progress", "none")
        have = load_file(os.path.join(back, "model.safetensors"))
        assert set(have) == set(family.want) and all(raw(have[k]) == raw(family.want[k]) for k in have)
    row.done()


# --- chunks of large arrays ----------------------------------------------------------------------------------------

def run_large(work, lens, Tally, Row):
    """An embedding of 141 MB and a gated MLP of 92 MB a layer: more than one chunk each."""
    torch.manual_seed(3)
    hidden, ffn, vocab, layers = 352, 65536, 200003, 1
    shapes = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    for i in range(layers):
        p = f"model.layers.{i}."
        shapes |= {p + "self_attn.q_proj.weight": (hidden, hidden), p + "self_attn.k_proj.weight": (hidden // 2, hidden),
                   p + "self_attn.v_proj.weight": (hidden // 2, hidden), p + "self_attn.o_proj.weight": (hidden, hidden),
                   p + "mlp.gate_proj.weight": (ffn, hidden), p + "mlp.up_proj.weight": (ffn, hidden),
                   p + "mlp.down_proj.weight": (hidden, ffn), p + "input_layernorm.weight": (hidden,),
                   p + "post_attention_layernorm.weight": (hidden,)}
    state = {k: torch.randn(s, dtype=torch.bfloat16) for k, s in shapes.items()}
    src, dst, row = os.path.join(work, "large"), os.path.join(work, "large-dist"), Row("llama", "large arrays")
    shutil.rmtree(dst, ignore_errors=True)
    os.makedirs(src, exist_ok=True)
    save_file(state, os.path.join(src, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(src, "config.json"), "w") as f:
        f.write('{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": %d, "intermediate_size": %d, '
                '"vocab_size": %d, "num_hidden_layers": %d, "num_attention_heads": 4, "num_key_value_heads": 2, '
                '"max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true}' % (hidden, ffn, vocab, layers))
    with Tally.check(row, "convert"):
        lens("convert", src, dst, "--to", "torch_dist", "--dist-files", 3, "--progress", "none")
    folder = iteration_folder(dst)
    with Tally.check(row, "several chunks each"):
        meta = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
        chunks = {k: [tuple(c.sizes) for c in m.chunks] for k, m in meta.items() if hasattr(m, "chunks")}
        assert len(chunks["embedding.word_embeddings.weight"]) == 4, chunks["embedding.word_embeddings.weight"]
        assert chunks["decoder.layers.mlp.linear_fc1.weight"] == [(1, ffn, hidden)] * 2, chunks["decoder.layers.mlp.linear_fc1.weight"]
        assert len({p.relative_path for p in dcp.FileSystemReader(folder).read_metadata().storage_data.values()}) == 3
    with Tally.check(row, "torch reads what they are made of"):
        have = arrays_of(folder)
        fc1 = torch.cat([state["model.layers.0.mlp.gate_proj.weight"], state["model.layers.0.mlp.up_proj.weight"]])
        assert torch.equal(have["decoder.layers.mlp.linear_fc1.weight"][0], fc1), "fc1 differs"
        assert torch.equal(have["decoder.layers.mlp.linear_fc2.weight"][0], state["model.layers.0.mlp.down_proj.weight"]), "fc2 differs"
        embed = have["embedding.word_embeddings.weight"]
        assert torch.equal(embed[:vocab], state["model.embed_tokens.weight"]) and not embed[vocab:].any(), "embedding differs"
    row.done()
    for path in (src, dst):
        shutil.rmtree(path)
