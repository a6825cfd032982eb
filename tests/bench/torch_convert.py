"""torch_convert.py SOURCE TARGET: the plain way to convert a Megatron Llama checkpoint.

Loads every rank with torch.load, concatenates what was cut, splits the fused matrices and
writes model.safetensors (or pytorch_model.bin where safetensors is not installed). It holds
the whole model in memory, as such scripts do. Only for the benchmark: dense models with
Transformer Engine names, RMSNorm, gated MLP, without biases.
"""
import json
import os
import re
import sys

import torch


def find_ranks(source):
    tracker = os.path.join(source, "latest_checkpointed_iteration.txt")
    if os.path.exists(tracker):
        word = open(tracker).read().strip()
        source = os.path.join(source, "release" if word == "release" else f"iter_{int(word):07d}")
    ranks = {}
    for name in os.listdir(source):
        m = re.fullmatch(r"mp_rank_(\d\d)(?:_(\d\d\d))?", name)
        if m:
            path = os.path.join(source, name, "model_optim_rng.pt")
            state = torch.load(path, map_location="cpu", weights_only=False)
            ranks[int(m[1]), int(m[2] or 0)] = state
    return ranks


def main():
    source, target = sys.argv[1:3]
    ranks = find_ranks(source)
    tp = 1 + max(t for t, _ in ranks)
    pp = 1 + max(p for _, p in ranks)
    args = ranks[0, 0]["args"]
    groups, head = args.num_query_groups // tp, args.kv_channels
    heads = args.num_attention_heads // tp
    queries = heads // groups
    per_stage = args.num_layers // pp
    out = {}

    def parts(p, name):
        return [ranks[t, p]["model"][name] for t in range(tp)]

    for p in range(pp):
        for name in ranks[0, p]["model"]:
            if name.endswith("_extra_state"):
                continue
            if name == "embedding.word_embeddings.weight":
                out["model.embed_tokens.weight"] = torch.cat(parts(p, name))[: args.vocab_size]
            elif name == "output_layer.weight":
                out["lm_head.weight"] = torch.cat(parts(p, name))[: args.vocab_size]
            elif name == "decoder.final_layernorm.weight":
                out["model.norm.weight"] = parts(p, name)[0]
            else:
                layer, rest = re.fullmatch(r"decoder\.layers\.(\d+)\.(.*)", name).groups()
                to = f"model.layers.{int(layer) + p * per_stage}."
                if rest == "self_attention.linear_qkv.layer_norm_weight":
                    out[to + "input_layernorm.weight"] = parts(p, name)[0]
                elif rest == "mlp.linear_fc1.layer_norm_weight":
                    out[to + "post_attention_layernorm.weight"] = parts(p, name)[0]
                elif rest == "self_attention.linear_qkv.weight":
                    q, k, v = [], [], []
                    for w in parts(p, name):
                        w = w.view(groups, queries + 2, head, -1)
                        q.append(w[:, :queries].reshape(-1, w.shape[-1]))
                        k.append(w[:, queries].reshape(-1, w.shape[-1]))
                        v.append(w[:, queries + 1].reshape(-1, w.shape[-1]))
                    out[to + "self_attn.q_proj.weight"] = torch.cat(q)
                    out[to + "self_attn.k_proj.weight"] = torch.cat(k)
                    out[to + "self_attn.v_proj.weight"] = torch.cat(v)
                elif rest == "self_attention.linear_proj.weight":
                    out[to + "self_attn.o_proj.weight"] = torch.cat(parts(p, name), dim=1)
                elif rest == "mlp.linear_fc1.weight":
                    gate, up = zip(*(w.chunk(2) for w in parts(p, name)))
                    out[to + "mlp.gate_proj.weight"] = torch.cat(gate)
                    out[to + "mlp.up_proj.weight"] = torch.cat(up)
                elif rest == "mlp.linear_fc2.weight":
                    out[to + "mlp.down_proj.weight"] = torch.cat(parts(p, name), dim=1)
                else:
                    sys.exit(f"{name}: this script does not know it")

    os.makedirs(target)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": args.hidden_size,
        "intermediate_size": args.ffn_hidden_size,
        "num_hidden_layers": args.num_layers,
        "num_attention_heads": args.num_attention_heads,
        "num_key_value_heads": args.num_query_groups,
        "head_dim": args.kv_channels,
        "vocab_size": args.vocab_size,
        "rms_norm_eps": args.norm_epsilon,
        "tie_word_embeddings": "lm_head.weight" not in out,
    }
    with open(os.path.join(target, "config.json"), "w") as f:
        json.dump(config, f, indent=2)
    out = {k: v.contiguous() for k, v in out.items()}
    try:
        from safetensors.torch import save_file
    except ImportError:
        torch.save(out, os.path.join(target, "pytorch_model.bin"))
    else:
        save_file(out, os.path.join(target, "model.safetensors"), metadata={"format": "pt"})


if __name__ == "__main__":
    main()
