"""Families: small random models of transformers' own classes (or, where transformers has none, a Llama or Mixtral packed as
the family's own code packs it), converted to Megatron at two TP x PP x EP and compared rank by rank with what the sources say
each file must hold, written once more here, by name, with cat, chunk and view; and back, bit for bit. Where Megatron-core
can run the model on a CPU its logits are compared with those of transformers as well; so are those of models that need
a little more than it has (norms after attention and MLP, norms over all heads), which is added here to its own modules.

Sources: transformers models/{llama,mistral,qwen2,qwen3,gemma,gemma2,gemma3,phi3,glm4,glm4_moe,gpt_oss,olmoe,mixtral,
qwen3_next}/modeling_*.py; Megatron-LM
megatron/core/transformer/{attention,mlp}.py, moe/experts.py, tensor_parallel/layers.py; Megatron-Bridge
src/megatron/bridge/models/{gemma,glm,gpt_oss,olmoe}; InternLM2's modeling_internlm2.py ("b q (h gs d) -> b q h gs d");
Baichuan-7B's modeling_baichuan.py (W_pack.unflatten(-1, (3, hidden))); thunlp/BlockFFN pretrain/bmt_to_hf/modeling_minicpm.py."""
import json
import os
import re
import shutil

import torch
import transformers
from safetensors.torch import load_file, save_file

from megatron_tiny import on_ranks, parallel_state
from megatron.core.fusions.fused_bias_geglu import quick_gelu
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_decoder_block_spec
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.core.fusions import fused_softmax
from megatron.core.tensor_parallel.layers import RowParallelLinear
from megatron.core.transformer.attention import SelfAttention
from megatron.core.transformer.spec_utils import build_module
from megatron.core.transformer.transformer_config import TransformerConfig
from moe import LOGITS, NEAR, config_fields, forward_hf, place, processes, rank_files, same, through_stages

SECOND = "each rank as written down a second time from the sources; back bit for bit"
DIVISOR = 6                     # --make-vocab-size-divisible-by


def models():
    """name -> (config of transformers, how its folder is packed, cuts, options); no two sizes of a matrix equal. A cut is
    (tp, pp, ep, etp)."""
    common = dict(rms_norm_eps=1e-6, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0,
                  num_hidden_layers=4, num_key_value_heads=2, num_attention_heads=4, vocab_size=71, hidden_size=40,
                  intermediate_size=28)
    plain = dict(rope_type="default", rope_theta=50000.0)
    experts = dict(common, num_experts_per_tok=2, num_hidden_layers=4)
    llama = dict(common, rope_parameters=plain, tie_word_embeddings=False)
    glm = dict(experts, head_dim=14, moe_intermediate_size=12, n_routed_experts=6, n_shared_experts=2, first_k_dense_replace=1,
               n_group=1, topk_group=1, routed_scaling_factor=1.5, attention_bias=True, tie_word_embeddings=False,
               rope_parameters=dict(plain, partial_rotary_factor=0.5), num_nextn_predict_layers=0)
    oss = dict(experts, head_dim=14, num_local_experts=6, sliding_window=5, tie_word_embeddings=False)
    gemma = dict(common, head_dim=14, query_pre_attn_scalar=14, sliding_window=5)
    once = dict(full_attention=plain, sliding_attention=plain)
    llama31 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=8192)
    dense, cut = [(2, 1, 1, 1), (4, 2, 1, 1)], [(2, 2, 3, 1), (1, 2, 2, 1)]
    even = [(2, 1, 1, 1), (1, 2, 1, 1)]      # Megatron-core 0.16 has no gate where ranks share a group
    return {
        "gemma": (transformers.GemmaConfig(**common, head_dim=14), None, dense, ()),
        "gemma without 1p": (transformers.GemmaConfig(**common, head_dim=14), None, dense, ("--set", "apply_layernorm_1p=false")),
        "gemma2": (transformers.Gemma2Config(**gemma), None, dense, ()),
        "gemma2 without 1p": (transformers.Gemma2Config(**gemma, attn_logit_softcapping=None, final_logit_softcapping=None), None, dense,
                              ("--set", "apply_layernorm_1p=false")),
        "gemma3": (transformers.Gemma3TextConfig(**gemma), None, dense, ()),
        "gemma3 without 1p": (transformers.Gemma3TextConfig(**gemma, sliding_window_pattern=3, rope_parameters=once), None, dense,
                              ("--set", "apply_layernorm_1p=false")),
        "llama": (transformers.LlamaConfig(**dict(llama, rope_parameters=llama31)), None, dense, ()),
        "mistral": (transformers.MistralConfig(**dict(llama, sliding_window=5, head_dim=14)), None, dense, ()),
        "qwen2": (transformers.Qwen2Config(**dict(llama, use_sliding_window=False)), None, dense, ()),
        "qwen3": (transformers.Qwen3Config(**dict(llama, head_dim=14, use_sliding_window=False)), None, dense, ()),
        "gated-attention without 1p": (transformers.Qwen3NextConfig(**dict(
            llama, head_dim=16, layer_types=["full_attention"] * 4, mlp_only_layers=[0, 1, 2, 3], rope_parameters=dict(
                plain, partial_rotary_factor=0.25))), None, even, ("--set", "apply_layernorm_1p=false")),
        "gated-attention": (transformers.Qwen3NextConfig(**dict(
            llama, head_dim=16, layer_types=["full_attention"] * 4, mlp_only_layers=[0, 1, 2, 3], rope_parameters=dict(
                plain, partial_rotary_factor=0.25))), None, dense, ()),
        "llama with 1p": (transformers.LlamaConfig(**llama), None, dense[:1], ("--set", "apply_layernorm_1p=true")),
        "phi3": (transformers.Phi3Config(**dict(common, original_max_position_embeddings=64, tie_word_embeddings=False)), None, dense, ()),
        "internlm2": (transformers.LlamaConfig(**llama), internlm2, dense, ()),
        "baichuan": (transformers.LlamaConfig(**dict(llama, num_key_value_heads=4)), baichuan, dense, ()),
        "glm4": (transformers.Glm4Config(**dict(common, head_dim=14, attention_bias=True, tie_word_embeddings=False, rope_parameters=dict(
            plain, partial_rotary_factor=0.5))), None, dense, ()),
        "glm4-moe": (transformers.Glm4MoeConfig(**glm, use_qk_norm=True), None, cut, ()),
        "glm4-moe air": (transformers.Glm4MoeConfig(**dict(glm, use_qk_norm=False)), None, cut[:1], ()),
        "gpt-oss": (transformers.GptOssConfig(**dict(oss, rope_parameters=dict(
            rope_type="yarn", rope_theta=150000.0, factor=4.0, original_max_position_embeddings=16, beta_fast=32.0, beta_slow=1.0,
            truncate=False))), None, cut, ()),
        "olmoe": (transformers.OlmoeConfig(**dict(experts, num_experts=6, rope_parameters=plain, tie_word_embeddings=False)), None,
                  [(1, 1, 3, 1), (1, 2, 2, 1)], ()),
        "minicpm-moe": (transformers.MixtralConfig(**dict(experts, num_local_experts=6, sliding_window=None, head_dim=10, rope_parameters=plain,
                                                          tie_word_embeddings=True)), minicpm_moe, cut, ()),
        "minicpm-blockffn": (transformers.LlamaConfig(**dict(llama, tie_word_embeddings=True)), block_ffn, [(1, 2, 1, 1), (1, 1, 1, 1)], ()),
    }


# --- folders of families that transformers has no class for -------------------------------------------------------------

def rename(state, pairs):
    out = {}
    for name, value in state.items():
        for old, new in pairs:
            name = name.replace(old, new)
        out[name] = value
    return out


def internlm2(state, config):
    """wqkv: one group after the other, its query heads, a key head, a value head."""
    out, head = dict(state), config.hidden_size // config.num_attention_heads
    for i in range(config.num_hidden_layers):
        a = f"model.layers.{i}.self_attn."
        q, k, v = (out.pop(f"{a}{x}_proj.weight").view(config.num_key_value_heads, -1, head, config.hidden_size) for x in "qkv")
        out[f"model.layers.{i}.attention.wqkv.weight"] = torch.cat([q, k, v], 1).reshape(-1, config.hidden_size)
    out = rename(out, [("self_attn.o_proj", "attention.wo"), ("mlp.gate_proj", "feed_forward.w1"), ("mlp.up_proj", "feed_forward.w3"),
                       ("mlp.down_proj", "feed_forward.w2"), ("input_layernorm", "attention_norm"), ("post_attention_layernorm", "ffn_norm"),
                       ("embed_tokens", "tok_embeddings"), ("lm_head", "output")])
    return out, dict(model_type="internlm2", architectures=["InternLM2ForCausalLM"], bias=False)


def baichuan(state, config):
    out = dict(state)
    for i in range(config.num_hidden_layers):
        a = f"model.layers.{i}.self_attn."
        out[a + "W_pack.weight"] = torch.cat([out.pop(f"{a}{x}_proj.weight") for x in "qkv"])
    return out, dict(model_type="baichuan", architectures=["BaichuanForCausalLM"])


def minicpm_moe(state, config):
    out = rename(state, [("block_sparse_moe.", "mlp.")])
    return out, dict(model_type="minicpm", architectures=["MiniCPMForCausalLM"], scale_emb=12, scale_depth=1.4, dim_model_base=8,
                     num_experts=6)


def block_ffn(state, config):
    """Every second layer has BlockFFN, in OpenBMB's names; 5 experts of 6 rows without a gate."""
    out, hidden = dict(state), config.hidden_size
    random = torch.Generator().manual_seed(3)
    for i in range(1, config.num_hidden_layers, 2):
        m = f"model.layers.{i}.mlp."
        for x in ("gate", "up", "down"):
            del out[f"{m}{x}_proj.weight"]
        for name, shape in (("moe_router", (5, hidden)), ("router_norm", (5,)), ("moe_w_in", (5, 6, hidden)), ("moe_w_out", (5, hidden, 6))):
            out[f"{m}{name}.weight"] = torch.randn(shape, generator=random)
    return out, dict(model_type="minicpm", architectures=["MiniCPMForCausalLM"], scale_emb=12, scale_depth=1.4, dim_model_base=8,
                     num_experts=5, expert_size=6, ffn_type="block", norm_after_router="rms", router_act="relu")


def make_hf(config, pack, folder, dtype=torch.float32):
    """Random weights that are no ones and zeros; transformers' model, tokens and logits. What is read by shardlens is what
    save_pretrained writes, packed anew where the family's code has another form."""
    torch.manual_seed(17)
    config.architectures = [type(config).__name__.replace("TextConfig", "Config").replace("Config", "ForCausalLM")]
    config._attn_implementation = "eager"
    model = getattr(transformers, config.architectures[0])(config).to(torch.float32).eval()
    zero_centred = config.model_type.startswith(("gemma", "qwen3_next"))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            middle = 1.0 if "norm" in name and not zero_centred else 0.0
            weight.normal_(middle, 0.3 if "norm" in name else 0.15)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.normal_(0.0, 0.2)
    shutil.rmtree(folder, ignore_errors=True)
    model.to(dtype).save_pretrained(folder)
    file = os.path.join(folder, "model.safetensors")
    state = load_file(file)
    if pack:
        packed, keys = pack(state, config)
        save_file({k: v.clone().contiguous() for k, v in packed.items()}, file, metadata={"format": "pt"})
        content = json.load(open(os.path.join(folder, "config.json")))
        json.dump(dict(content, **keys), open(os.path.join(folder, "config.json"), "w"))
        if pack is block_ffn:
            state = packed
    return model, state, forward_hf(model) if dtype == torch.float32 else None


# --- what each rank must hold, in Transformer Engine's names --------------------------------------------------------------

class Rank:
    def __init__(self, tp, pp, ep, cut):
        self.tp, self.pp, self.ep = tp, pp, ep
        self.T, self.P, self.E, _ = cut
        self.out = {}

    def folder(self):
        return f"mp_rank_{self.tp:02d}" + (f"_{self.pp:03d}" if self.P > 1 else "") + (f"_{self.ep:03d}" if self.E > 1 else "")

    def rows(self, name, x):
        self.out[name] = x.chunk(self.T, 0)[self.tp]

    def columns(self, name, x):
        self.out[name] = x.chunk(self.T, 1)[self.tp]

    def whole(self, name, x):
        self.out[name] = x

    def gated(self, name, gate, up):
        self.out[name] = torch.cat([gate.chunk(self.T, 0)[self.tp], up.chunk(self.T, 0)[self.tp]])


def interleaved(q, k, v, groups):
    """Rows of each key head's query heads, then its own, then the value's (attention.py, SelfAttention)."""
    parts = [x.view(groups, x.shape[0] // groups, *x.shape[1:]) for x in (q, k, v)]
    return torch.cat(parts, 1).reshape(-1, *q.shape[1:])


def gated(q, k, v, groups, head):
    """The same with a gate: in Hugging Face each head's rows of the query, then those of its gate; in Megatron the queries of a
    group, their gates, key, value (attention.py, attention_output_gate)."""
    q = q.view(groups, -1, 2, head, q.shape[-1])
    parts = [q[:, :, 0].flatten(1, 2), q[:, :, 1].flatten(1, 2), k.view(groups, head, -1), v.view(groups, head, -1)]
    return torch.cat(parts, 1).flatten(0, 1)


def padded(x, tp):
    rows = -(-x.shape[0] // (DIVISOR * tp)) * DIVISOR * tp
    return torch.cat([x, x.new_zeros(rows - x.shape[0], x.shape[1])])


def norm(family, options):
    """What Megatron keeps of a norm. Gemma's are around zero in Hugging Face and, with 1p, in Megatron."""
    around_zero = family.startswith(("gemma", "gated"))
    centred = "apply_layernorm_1p=false" not in options if around_zero else "apply_layernorm_1p=true" in options
    change = float(around_zero) - float(centred)
    return lambda x: x + change if change else x


def attention(r, s, h, m, config, family, keep):
    head = config.hidden_size // config.num_attention_heads
    q, k, v = ((s[h + f"self_attn.{x}_proj.weight"] for x in "qkv") if family != "phi3" else s[h + "self_attn.qkv_proj.weight"].split(
        [config.num_attention_heads * head, config.num_key_value_heads * head, config.num_key_value_heads * head]))
    a, groups = m + "self_attention.", config.num_key_value_heads
    r.rows(a + "linear_qkv.weight", gated(q, k, v, groups, config.head_dim) if family == "gated-attention" else interleaved(q, k, v, groups))
    if h + "self_attn.q_proj.bias" in s:
        r.rows(a + "linear_qkv.bias", interleaved(*(s[h + f"self_attn.{x}_proj.bias"] for x in "qkv"), groups))
    r.columns(a + "linear_proj.weight", s[h + "self_attn.o_proj.weight"])
    for name, new in (("self_attn.o_proj.bias", "linear_proj.bias"),):
        if h + name in s:
            r.whole(a + new, s[h + name])
    if h + "self_attn.sinks" in s:
        r.rows(a + "core_attention.softmax_offset", s[h + "self_attn.sinks"])
    for x in "qk":
        if h + f"self_attn.{x}_norm.weight" in s:
            r.whole(a + f"{x}_layernorm.weight", keep(s[h + f"self_attn.{x}_norm.weight"]))
    first = m + "input_layernorm.weight" if family == "minicpm-blockffn" else a + "linear_qkv.layer_norm_weight"
    r.whole(first, keep(s[h + "input_layernorm.weight"]))


def expert(s, h, e):
    """gate, up, down of one expert, each [out, in], and its biases."""
    for prefix, names in ((f"{h}mlp.experts.{e}.", ("gate_proj", "up_proj", "down_proj")), (f"{h}block_sparse_moe.experts.{e}.", ("w1", "w3", "w2"))):
        if prefix + names[0] + ".weight" in s:
            return [s[prefix + n + ".weight"] for n in names], None
    both, bias = s[h + "mlp.experts.gate_up_proj"][e], s[h + "mlp.experts.gate_up_proj_bias"][e]
    return ([both[:, 0::2].t(), both[:, 1::2].t(), s[h + "mlp.experts.down_proj"][e].t()],
            (torch.cat([bias[0::2], bias[1::2]]), s[h + "mlp.experts.down_proj_bias"][e]))


def mlp(r, s, h, m, config, family, keep):
    routers = [n for n in ("mlp.gate.weight", "mlp.router.weight", "block_sparse_moe.gate.weight") if h + n in s]
    four = h + "pre_feedforward_layernorm.weight" in s
    if family == "glm4":
        r.whole(m + "post_attn_norm.weight", s[h + "post_self_attn_layernorm.weight"])
        r.whole(m + "post_mlp_layernorm.weight", s[h + "post_mlp_layernorm.weight"])
    before = keep(s[h + ("pre_feedforward_layernorm.weight" if four else "post_attention_layernorm.weight")])
    if four:
        r.whole(m + "self_attention.linear_proj.post_layernorm.weight", keep(s[h + "post_attention_layernorm.weight"]))
        r.whole(m + "mlp.linear_fc2.post_layernorm.weight", keep(s[h + "post_feedforward_layernorm.weight"]))
    if h + "mlp.moe_router.weight" in s:
        for n in ("moe_router", "router_norm", "moe_w_in", "moe_w_out"):
            r.whole(f"{m}mlp.{n}.weight", s[f"{h}mlp.{n}.weight"])
        r.whole(m + "pre_mlp_layernorm.weight", before)
        return
    if not routers:
        if h + "mlp.gate_up_proj.weight" in s:
            gate, up = s[h + "mlp.gate_up_proj.weight"].chunk(2)
        else:
            gate, up = s[h + "mlp.gate_proj.weight"], s[h + "mlp.up_proj.weight"]
        r.gated(m + "mlp.linear_fc1.weight", gate, up)
        r.columns(m + "mlp.linear_fc2.weight", s[h + "mlp.down_proj.weight"])
        r.whole(m + ("pre_mlp_layernorm.weight" if family == "minicpm-blockffn" else "mlp.linear_fc1.layer_norm_weight"), before)
        return
    r.whole(m + "pre_mlp_layernorm.weight", before)
    r.whole(m + "mlp.router.weight", s[h + routers[0]])
    for n, new in (("mlp.router.bias", "bias"), ("mlp.gate.e_score_correction_bias", "expert_bias")):
        if h + n in s:
            r.whole(m + "mlp.router." + new, s[h + n])
    count = s[h + routers[0]].shape[0]
    for local in range(count // r.E):                            # expert TP is 1: an expert is whole on its rank
        (gate, up, down), biases = expert(s, h, r.ep * (count // r.E) + local)
        r.whole(f"{m}mlp.experts.linear_fc1.weight{local}", torch.cat([gate, up]))
        r.whole(f"{m}mlp.experts.linear_fc2.weight{local}", down)
        if biases:
            r.whole(f"{m}mlp.experts.linear_fc1.bias{local}", biases[0])
            r.whole(f"{m}mlp.experts.linear_fc2.bias{local}", biases[1])
    if h + "mlp.shared_experts.gate_proj.weight" in s:
        r.gated(m + "mlp.shared_experts.linear_fc1.weight", s[h + "mlp.shared_experts.gate_proj.weight"], s[h + "mlp.shared_experts.up_proj.weight"])
        r.columns(m + "mlp.shared_experts.linear_fc2.weight", s[h + "mlp.shared_experts.down_proj.weight"])


def must_hold(s, config, family, cut, options):
    """rank folder -> state dict"""
    tp, pp, ep, _ = cut
    keep, out, stage = norm(family, options), {}, config.num_hidden_layers // pp
    for p in range(pp):
        for e in range(ep):
            for t in range(tp):
                r = Rank(t, p, e, cut)
                if p == 0:
                    r.rows("embedding.word_embeddings.weight", padded(s["model.embed_tokens.weight"], tp))
                for i in range(stage):
                    h, m = f"model.layers.{p * stage + i}.", f"decoder.layers.{i}."
                    attention(r, s, h, m, config, family, keep)
                    mlp(r, s, h, m, config, family, keep)
                if p == pp - 1:
                    r.whole("decoder.final_layernorm.weight", keep(s["model.norm.weight"]))
                    if "lm_head.weight" in s or pp > 1:
                        r.rows("output_layer.weight", padded(s.get("lm_head.weight", s["model.embed_tokens.weight"]), tp))
                out[r.folder()] = r.out
    return out


# --- in Megatron ------------------------------------------------------------------------------------------------------------

def runs_in_megatron(name):
    """All but norms around zero, which its layers without Transformer Engine do not have; BlockFFN, which nobody has published
    for Megatron; and the caps on logits of Gemma 2."""
    return name not in ("gemma", "gemma2", "gemma3", "gated-attention", "llama with 1p", "minicpm-blockffn")


def window_mask(queries, keys, window):
    """get_sliding_window_causal_mask (megatron/core/transformer/utils.py), which makes it on a GPU."""
    ones = torch.ones(queries, keys, dtype=torch.bool)
    return ~torch.tril(torch.triu(ones, diagonal=keys - queries - window[0]), diagonal=keys - queries + window[1])


fused_softmax.get_sliding_window_causal_mask = window_mask


class WholeNorms(SelfAttention):
    """OLMoE's norms are over all heads together (Megatron-Bridge models/olmoe/olmoe_provider.py); tensor parallel size 1."""

    def __init__(self, config, submodules, *args, **kwargs):
        super().__init__(config, submodules, *args, **kwargs)
        for name, heads in (("q_layernorm", config.num_attention_heads), ("k_layernorm", config.num_query_groups)):
            setattr(self, name, build_module(getattr(submodules, name), hidden_size=heads * config.kv_channels, config=config,
                                             eps=config.layernorm_epsilon))

    def get_query_key_value_tensors(self, *args, **kwargs):
        norms = self.q_layernorm, self.k_layernorm
        self.q_layernorm = self.k_layernorm = None
        query, key, value = super().get_query_key_value_tensors(*args, **kwargs)
        self.q_layernorm, self.k_layernorm = norms
        return norms[0](query.flatten(-2)).view_as(query), norms[1](key.flatten(-2)).view_as(key), value


def with_norms_after(spec):
    """linear_proj and linear_fc2 whose output is normed (Megatron-Bridge models/gemma/modules.py, models/glm)."""
    norm = spec.layer_specs[0].submodules.input_layernorm

    class RowParallelThenNorm(RowParallelLinear):
        def __init__(self, inputs, outputs, *args, config, **kwargs):
            super().__init__(inputs, outputs, *args, config=config, **kwargs)
            self.post_layernorm = build_module(norm, hidden_size=outputs, config=config, eps=config.layernorm_epsilon)

        def forward(self, x):
            out, bias = super().forward(x)
            return self.post_layernorm(out), bias

    for layer in spec.layer_specs:
        layer.submodules.self_attention.submodules.linear_proj = RowParallelThenNorm
        layer.submodules.mlp.submodules.linear_fc2 = RowParallelThenNorm


def spec_of(config, family):
    spec = get_gpt_decoder_block_spec(config, use_transformer_engine=False, normalization="RMSNorm")
    if family in ("gemma2", "gemma3", "glm4"):
        with_norms_after(spec)
    for layer in spec.layer_specs if family == "olmoe" else ():
        layer.submodules.self_attention.module = WholeNorms
    return spec


def as_modules(state):
    """MindSpeed-LLM's names of the norms after attention and MLP as those of the modules above."""
    return {k.replace(".post_attn_norm.", ".self_attention.linear_proj.post_layernorm.").replace(
        ".post_mlp_layernorm.", ".mlp.linear_fc2.post_layernorm."): v for k, v in state.items()}


def megatron_logits(rank, cut, folder, tokens, family):
    """Every rank loads its file, strictly. Returns the logits of all processes of the last stage."""
    tp, pp, ep, etp = cut
    parallel_state.destroy_model_parallel()
    parallel_state.initialize_model_parallel(tp, pp, expert_model_parallel_size=ep, expert_tensor_parallel_size=etp)
    file = torch.load(os.path.join(folder, place(pp, ep), "model_optim_rng.pt"), weights_only=False)
    args = file["args"]
    fields = config_fields(args)
    fields.update(moe_router_enable_expert_bias=args.moe_router_enable_expert_bias, moe_router_dtype="fp32",
                  moe_router_topk_scaling_factor=args.moe_router_topk_scaling_factor, rotary_interleaved=args.rotary_interleaved,
                  attention_output_gate=args.attention_output_gate, window_size=getattr(args, "window_size", None),
                  window_attn_skip_freq=getattr(args, "window_attn_skip_freq", None))
    if family.startswith("gemma"):
        fields.update(activation_func=lambda x: torch.nn.functional.gelu(x, approximate="tanh"), gated_linear_unit=True)
    if family == "gpt-oss":
        fields.update(activation_func=quick_gelu, gated_linear_unit=True, softmax_type=args.softmax_type,
                      glu_linear_offset=args.glu_linear_offset, activation_func_clamp_value=args.activation_func_clamp_value)
    config = TransformerConfig(**fields)
    for key in ("yarn_rotary_scaling_factor", "yarn_original_max_position_embeddings", "yarn_beta_fast", "yarn_beta_slow",
                "yarn_correction_range_round_to_int"):
        if hasattr(args, key):
            setattr(config, key, getattr(args, key))
    config.yarn_mscale = config.yarn_mscale_all_dim = None
    chunk = GPTModel(
        config=config, transformer_layer_spec=spec_of(config, family), vocab_size=args.padded_vocab_size,
        max_sequence_length=args.max_position_embeddings, pre_process=parallel_state.is_pipeline_first_stage(),
        post_process=parallel_state.is_pipeline_last_stage(), parallel_output=False,
        share_embeddings_and_output_weights=not args.untie_embeddings_and_output_weights,
        position_embedding_type=args.position_embedding_type, rotary_base=args.rotary_base, rotary_percent=args.rotary_percent,
        rope_scaling=args.use_rope_scaling, rope_scaling_factor=args.rope_scaling_factor).eval()
    chunk.load_state_dict(as_modules(file["model"]), strict=True)
    if family.startswith("gemma") and parallel_state.is_pipeline_first_stage():
        chunk.embedding.register_forward_hook(lambda m, i, out: out * config.hidden_size ** 0.5)
    with torch.no_grad():
        logits = through_stages(chunk, tokens, config)
    everyone = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, logits)
    return [x for x in everyone if x is not None]


# --- the checks ---------------------------------------------------------------------------------------------------------------

def family_file(family, folder):
    """A family that is described in a file of its own: the worked example of docs/families.md, or one of docs/examples."""
    docs = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs")
    if family != "glm4":
        return os.path.join(docs, "examples", family + ".json")
    text = re.search(r"```json\n(.*?)```", open(os.path.join(docs, "families.md")).read(), re.S).group(1)
    path = os.path.join(folder, json.loads(text)["family"] + ".json")
    open(path, "w").write(text)
    return path


def one_cut(work, lens, Tally, Row, name, config, hf, state, truth, cut, options):
    tp, pp, ep, etp = cut
    case, family = f"tp{tp} pp{pp} ep{ep} etp{etp}", name.split()[0]
    if family in ("glm4", "gated-attention"):
        taught, plain_lens = ("--family-file", family_file(family, work)), lens
        lens = lambda *args: plain_lens(*args, *taught)              # noqa: E731
    row = Row(name[:18], case)
    row.proves(family, case, ["to Megatron", "to Hugging Face"], LOGITS if runs_in_megatron(name) else SECOND)
    te, local, back = (os.path.join(work, f"{name}-{case}-{x}".replace(" ", "_")) for x in ("te", "local", "back"))
    sizes = ("--tp", tp, "--pp", pp, "--ep", ep, "--etp", etp, "--make-vocab-size-divisible-by", DIVISOR, "--progress", "none")
    with Tally.check(row, "convert to Megatron, verify both ways"):
        lens("convert", hf, te, "--to", "megatron", *sizes, *options)
        lens("verify", hf, te, "--progress", "none", *options)
        lens("verify", te, hf, "--progress", "none", *options)
    with Tally.check(row, "every rank holds what the sources say, bit for bit"):
        have, want = rank_files(os.path.join(te, "release")), must_hold(state, config, family, cut, options)
        assert set(have) == set(want), sorted(have)
        for rank in want:
            same({k: v for k, v in have[rank].items() if torch.is_tensor(v)}, want[rank])
    with Tally.check(row, "inspect knows it"):
        seen = json.loads(lens("inspect", te, "--json", *(("--model", family) if family in AMBIGUOUS else ())).stdout)
        assert seen["family"] == family, seen["family"]
        assert not [p for p in seen["problems"] if p["severity"] == "error"], seen["problems"]
    exact = not any("apply_layernorm_1p" in o for o in options)
    with Tally.check(row, "check --deep finds nothing wrong"):
        lens("check", te, "--deep", "--progress", "none")
    sources = [(te, "Transformer Engine's names")]
    if runs_in_megatron(name):
        with Tally.check(row, "every rank loads strictly into Megatron-core; logits as transformers'"):
            lens("convert", hf, local, "--to", "megatron", *sizes, *options, "--names", "local", "--experts", "local")
            tokens, logits = truth
            try:
                got = on_ranks(processes(*cut), megatron_logits, cut, os.path.join(local, "release"), tokens, family)
            except SystemExit as e:                  # the rank has said why
                raise AssertionError(e) from None
            apart = max((x[..., :config.vocab_size] - logits).abs().max().item() for x in got)
            row.note = f"logits within {apart:.1e} ({logits.abs().max():.1f} largest)"
            assert apart <= NEAR, f"logits differ by {apart:.2e}"
        sources.append((local, "local names"))
    for source, what in sources:
        with Tally.check(row, f"back from {what}" + (", bit for bit" if exact else ", to the last digit of a sum")):
            shutil.rmtree(back, ignore_errors=True)
            lens("convert", source, back, "--to", "hf", "--progress", "none", "--hf-config", hf,
                 *(("--model", family) if family in AMBIGUOUS else ()))
            again, was = load_file(os.path.join(back, "model.safetensors")), load_file(os.path.join(hf, "model.safetensors"))
            if not exact:                                        # w + 1 - 1 in fp32
                for key in [k for k in was if "norm" in k]:
                    assert (again[key] - was[key]).abs().max() <= 2 ** -23, key
                    again[key] = was[key]
            same(again, was)
    with Tally.check(row, "config.json says what it was"):
        a, b = (json.load(open(os.path.join(f, "config.json"))) for f in (back, hf))
        for key in sorted(b):
            if key in a and key not in ("transformers_version", "dtype", "rope_parameters", "use_cache"):
                assert a[key] == b[key], f"{key} is {a[key]!r}, was {b[key]!r}"
        assert a["model_type"] == b["model_type"] and a["architectures"] == b["architectures"]
    row.done()


# Nothing in their Megatron tensors tells them from Llama or Mixtral.
AMBIGUOUS = ("phi3", "internlm2", "baichuan", "llama", "mistral")


def run(work, lens, Tally, Row):
    for name, (config, pack, cuts, options) in models().items():
        print(f"\n{name}")
        hf = os.path.join(work, "families", name.replace(" ", "_"), "hf")
        os.makedirs(hf, exist_ok=True)
        model, state, truth = make_hf(config, pack, hf)
        for cut in cuts:
            one_cut(os.path.dirname(hf), lens, Tally, Row, name, config, hf, state, truth, cut, options)
