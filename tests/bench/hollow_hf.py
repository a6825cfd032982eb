#!/usr/bin/env python3
"""A Hugging Face checkpoint of full size without its data: hollow_hf.py MODEL FOLDER.

config.json, the headers of safetensors files of at most 5 GB, and holes in the place of the weights (sparse files).
MODEL: 1b, 8b, 70b, 405b (Llama 3.1 and 3.2) or 671b (DeepSeek-V3: 61 layers, 256 experts). Needs no torch.
"""
import json
import os
import struct
import sys

LLAMA = {  # layers, hidden, ffn, heads, query groups, head, tied: the published config.json files
    "1b": (16, 2048, 8192, 32, 8, 64, True),
    "8b": (32, 4096, 14336, 32, 8, 128, False),
    "70b": (80, 8192, 28672, 64, 8, 128, False),
    "405b": (126, 16384, 53248, 128, 8, 128, False),
}
SHARD = 5 * 10**9


def llama(name):
    layers, hidden, ffn, heads, groups, head, tied = LLAMA[name]
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", num_hidden_layers=layers, hidden_size=hidden,
                  intermediate_size=ffn, num_attention_heads=heads, num_key_value_heads=groups, head_dim=head, vocab_size=128256,
                  tie_word_embeddings=tied, rms_norm_eps=1e-5, rope_theta=500000.0, max_position_embeddings=131072, hidden_act="silu",
                  attention_bias=False, mlp_bias=False, torch_dtype="bfloat16", bos_token_id=128000, eos_token_id=128001)
    tensors = [("model.embed_tokens.weight", [128256, hidden])]
    for i in range(layers):
        at = f"model.layers.{i}."
        tensors += [(at + "self_attn.q_proj.weight", [heads * head, hidden]), (at + "self_attn.k_proj.weight", [groups * head, hidden]),
                    (at + "self_attn.v_proj.weight", [groups * head, hidden]), (at + "self_attn.o_proj.weight", [hidden, heads * head]),
                    (at + "mlp.gate_proj.weight", [ffn, hidden]), (at + "mlp.up_proj.weight", [ffn, hidden]),
                    (at + "mlp.down_proj.weight", [hidden, ffn]), (at + "input_layernorm.weight", [hidden]),
                    (at + "post_attention_layernorm.weight", [hidden])]
    tensors.append(("model.norm.weight", [hidden]))
    if not tied:
        tensors.append(("lm_head.weight", [128256, hidden]))
    return config, tensors


def deepseek_v3():
    layers, dense, hidden, ffn, moe, experts, heads, vocab = 61, 3, 7168, 18432, 2048, 256, 128, 129280
    q, kv, nope, rope, v = 1536, 512, 128, 64, 128
    config = dict(architectures=["DeepseekV3ForCausalLM"], model_type="deepseek_v3", num_hidden_layers=layers, hidden_size=hidden,
                  intermediate_size=ffn, moe_intermediate_size=moe, n_routed_experts=experts, n_shared_experts=1, num_experts_per_tok=8,
                  first_k_dense_replace=dense, num_attention_heads=heads, num_key_value_heads=heads, q_lora_rank=q, kv_lora_rank=kv,
                  qk_nope_head_dim=nope, qk_rope_head_dim=rope, v_head_dim=v, vocab_size=vocab, n_group=8, topk_group=4,
                  routed_scaling_factor=2.5, norm_topk_prob=True, scoring_func="sigmoid", topk_method="noaux_tc", hidden_act="silu",
                  rms_norm_eps=1e-6, rope_theta=10000.0, max_position_embeddings=163840, tie_word_embeddings=False, attention_bias=False,
                  num_nextn_predict_layers=0, torch_dtype="bfloat16", bos_token_id=0, eos_token_id=1,
                  rope_scaling=dict(type="yarn", factor=40, original_max_position_embeddings=4096, beta_fast=32, beta_slow=1,
                                    mscale=1.0, mscale_all_dim=1.0))
    tensors = [("model.embed_tokens.weight", [vocab, hidden])]
    for i in range(layers):
        at = f"model.layers.{i}."
        tensors += [(at + "self_attn.q_a_proj.weight", [q, hidden]), (at + "self_attn.q_a_layernorm.weight", [q]),
                    (at + "self_attn.q_b_proj.weight", [heads * (nope + rope), q]),
                    (at + "self_attn.kv_a_proj_with_mqa.weight", [kv + rope, hidden]), (at + "self_attn.kv_a_layernorm.weight", [kv]),
                    (at + "self_attn.kv_b_proj.weight", [heads * (nope + v), kv]), (at + "self_attn.o_proj.weight", [hidden, heads * v])]
        mlps = [("mlp.", ffn)] if i < dense else [(f"mlp.experts.{e}.", moe) for e in range(experts)] + [("mlp.shared_experts.", moe)]
        for name, width in mlps:
            tensors += [(at + name + "gate_proj.weight", [width, hidden]), (at + name + "up_proj.weight", [width, hidden]),
                        (at + name + "down_proj.weight", [hidden, width])]
        if i >= dense:
            tensors += [(at + "mlp.gate.weight", [experts, hidden]), (at + "mlp.gate.e_score_correction_bias", [experts])]
        tensors += [(at + "input_layernorm.weight", [hidden]), (at + "post_attention_layernorm.weight", [hidden])]
    tensors += [("model.norm.weight", [hidden]), ("lm_head.weight", [vocab, hidden])]
    return config, tensors


def size(name, shape):
    count = 1
    for n in shape:
        count *= n
    return count * (4 if name.endswith("e_score_correction_bias") else 2)


def main():
    model, folder = sys.argv[1], sys.argv[2]
    config, tensors = deepseek_v3() if model == "671b" else llama(model)
    shards, room = [[]], SHARD
    for name, shape in tensors:
        n = size(name, shape)
        if shards[-1] and n > room:
            shards.append([])
            room = SHARD
        shards[-1].append((name, shape))
        room -= n
    os.makedirs(folder)
    with open(f"{folder}/config.json", "w") as f:
        json.dump(config, f, indent=1)
    weight_map = {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        header, at = {}, 0
        for name, shape in shard:
            n = size(name, shape)
            dtype = "F32" if name.endswith("e_score_correction_bias") else "BF16"
            header[name] = dict(dtype=dtype, shape=shape, data_offsets=[at, at + n])
            weight_map[name] = file
            at += n
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(f"{folder}/{file}", "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            f.truncate(8 + len(text) + at)
    with open(f"{folder}/model.safetensors.index.json", "w") as f:
        json.dump(dict(metadata=dict(total_size=sum(size(*t) for t in tensors)), weight_map=weight_map), f)


main()
