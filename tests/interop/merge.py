"""Merge Megatron rank files into one Hugging Face state dict with torch: a second opinion, apart from hf_expect.py
(which starts from a model that was never cut) and from shardlens."""
import os
import re

import torch


def shard_folder(src):
    tracker = os.path.join(src, "latest_checkpointed_iteration.txt")
    if not os.path.exists(tracker):
        return src
    word = open(tracker).read().strip()
    return os.path.join(src, word if word == "release" else f"iter_{int(word):07d}")


def load_ranks(src):
    """{(tp, pp): what the file holds}"""
    folder, ranks = shard_folder(src), {}
    for name in sorted(os.listdir(folder)):
        match = re.fullmatch(r"mp_rank_(\d+)(?:_(\d+))?", name)
        if match:
            ranks[int(match[1]), int(match[2] or 0)] = torch.load(
                os.path.join(folder, name, "model_optim_rng.pt"), weights_only=False)
    return ranks


def stages_of(ranks):
    """State dicts in the order of their layers, each a list over tensor-parallel ranks."""
    tp, pp = 1 + max(t for t, _ in ranks), 1 + max(p for _, p in ranks)
    chunks = [key for key in ranks[0, 0] if re.fullmatch(r"model\d*", key)]
    return [[ranks[t, p][chunk] for t in range(tp)] for chunk in chunks for p in range(pp)]


def merge(ranks, args):
    """The HF state dict. `args` says heads, groups, head size, vocabulary and whether the head is tied."""
    heads, d = args.num_attention_heads, args.kv_channels
    groups = args.num_query_groups if args.group_query_attention else heads
    out, layer = {}, 0
    for stage in stages_of(ranks):
        first = stage[0]

        def rows(name):
            return torch.cat([rank[name] for rank in stage])

        def columns(name):
            return torch.cat([rank[name] for rank in stage], dim=1)

        def either(*names):
            return next(first[name] for name in names if name in first)

        if "embedding.word_embeddings.weight" in first:
            out["model.embed_tokens.weight"] = rows("embedding.word_embeddings.weight")[:args.vocab_size]
        indices = [int(key.split(".")[2]) for key in first if key.startswith("decoder.layers.")]
        for i in range(1 + max(indices, default=-1)):
            mc, hf = f"decoder.layers.{i}.", f"model.layers.{layer}."
            out[hf + "input_layernorm.weight"] = either(
                mc + "input_layernorm.weight", mc + "self_attention.linear_qkv.layer_norm_weight")
            out[hf + "post_attention_layernorm.weight"] = either(
                mc + "pre_mlp_layernorm.weight", mc + "mlp.linear_fc1.layer_norm_weight")
            for kind in ("weight", "bias"):
                if mc + f"self_attention.linear_qkv.{kind}" in first:
                    qkv = rows(mc + f"self_attention.linear_qkv.{kind}")
                    parts = qkv.reshape(groups, heads // groups + 2, d, *qkv.shape[1:]).split(
                        [heads // groups, 1, 1], dim=1)
                    for name, part in zip("qkv", parts):
                        out[hf + f"self_attn.{name}_proj.{kind}"] = part.reshape(-1, *qkv.shape[1:])
            out[hf + "self_attn.o_proj.weight"] = columns(mc + "self_attention.linear_proj.weight")
            halves = [rank[mc + "mlp.linear_fc1.weight"].chunk(2) for rank in stage]
            out[hf + "mlp.gate_proj.weight"] = torch.cat([gate for gate, _ in halves])
            out[hf + "mlp.up_proj.weight"] = torch.cat([up for _, up in halves])
            out[hf + "mlp.down_proj.weight"] = columns(mc + "mlp.linear_fc2.weight")
            layer += 1
        if "decoder.final_layernorm.weight" in first:
            out["model.norm.weight"] = first["decoder.final_layernorm.weight"]
        if "output_layer.weight" in first and args.untie_embeddings_and_output_weights:
            out["lm_head.weight"] = rows("output_layer.weight")[:args.vocab_size]
    return {name: tensor.contiguous() for name, tensor in out.items()}
