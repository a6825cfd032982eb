"""Latent attention (MLA): small random models of transformers' own classes (MiniCPM3, DeepSeek-V2 and V3), converted to
Megatron at several TP x PP x EP (x expert TP), loaded by every rank into Megatron-core's GPTModel with MLASelfAttention
(strict), logits compared with those of transformers; and back, bit for bit. The order of the rotary rows, which no shape
tells, is decided here: with the wrong one the logits are far apart."""
import json
import os
import shutil

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.modeling_layers import MtpModel

from dist import iteration_folder, load_chunk, rank_args
from megatron_tiny import on_ranks, parallel_state
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_decoder_block_spec, get_gpt_mtp_block_spec
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.core.transformer.dot_product_attention import DotProductAttention
from megatron.core.transformer import multi_latent_attention
from megatron.core.transformer.transformer_config import MLATransformerConfig
from moe import LOGITS, NEAR, config_fields, forward_hf, place, processes, rank_files, same, through_stages

multi_latent_attention.HAVE_TE = isinstance(multi_latent_attention.TELinear, type)    # it takes names for the package

YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=16, beta_fast=32.0, beta_slow=1.0,
            mscale=0.8, mscale_all_dim=0.7)


def models():
    """name -> (config, cuts); no two sizes of a matrix equal. A cut is (tp, pp, ep, etp). Norms of the latents have the
    epsilon 1e-6 in transformers whatever the config says, and that of all others in Megatron: here they are the same."""
    common = dict(rms_norm_eps=1e-6, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, num_hidden_layers=4,
                  num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=20, qk_nope_head_dim=14, qk_rope_head_dim=8,
                  v_head_dim=10, initializer_range=0.02)
    plain = dict(rope_type="default", rope_theta=50000.0)
    experts = dict(common, hidden_size=52, intermediate_size=44, moe_intermediate_size=24, n_routed_experts=12, n_shared_experts=2,
                   num_experts_per_tok=4, tie_word_embeddings=False)
    v3 = dict(experts, vocab_size=71, n_group=4, topk_group=2, routed_scaling_factor=2.5, first_k_dense_replace=1, q_lora_rank=28,
              norm_topk_prob=True, num_nextn_predict_layers=0)
    v2 = dict(experts, vocab_size=83, routed_scaling_factor=1.5, first_k_dense_replace=1, norm_topk_prob=False)
    # MiniCPM's scalings are no part of Megatron-core: with these numbers they are none
    mini = dict(common, vocab_size=77, hidden_size=48, intermediate_size=36, scale_emb=1, scale_depth=None, dim_model_base=None,
                rope_parameters=plain)
    return {
        "minicpm3": (transformers.MiniCPM3Config(**dict(mini, q_lora_rank=28, tie_word_embeddings=True)),
                     [(2, 1, 1, 1), (1, 2, 1, 1), (4, 2, 1, 1)]),
        "minicpm3 plain q": (transformers.MiniCPM3Config(**dict(mini, q_lora_rank=None, tie_word_embeddings=False)), [(2, 2, 1, 1)]),
        "deepseek-v2": (transformers.DeepseekV2Config(**dict(
            v2, q_lora_rank=28, rope_parameters=YARN, topk_method="group_limited_greedy", n_group=4, topk_group=2, num_experts_per_tok=2)),
            [(2, 1, 2, 1), (1, 2, 3, 1)]),
        "deepseek-v2 lite": (transformers.DeepseekV2Config(**dict(v2, q_lora_rank=None, rope_parameters=YARN, topk_method="greedy")),
                             [(2, 2, 2, 2), (4, 1, 2, 1)]),
        "deepseek-v3": (transformers.DeepseekV3Config(**dict(v3, rope_parameters=YARN)), [(2, 2, 2, 1), (1, 2, 4, 1)]),
        "deepseek-v3 mtp": (transformers.DeepseekV3Config(**dict(v3, rope_parameters=YARN, num_nextn_predict_layers=1)),
                            [(2, 1, 2, 1), (1, 2, 3, 1)]),
        "deepseek-v3 mtp 2": (transformers.DeepseekV3Config(**dict(v3, rope_parameters=plain, num_nextn_predict_layers=2)), [(2, 2, 1, 1)]),
        "deepseek-v3 halves": (transformers.DeepseekV3Config(**dict(v3, rope_parameters=plain, rope_interleave=False)), [(2, 1, 1, 2)]),
        "deepseek-v3 moonlight": (transformers.DeepseekV3Config(**dict(v3, q_lora_rank=None, rope_parameters=plain, n_group=1, topk_group=1)),
                                  [(2, 1, 6, 1), (1, 2, 2, 1)]),
    }


def make_hf(config, folder):
    """Random weights, norms away from one, a bias of the router that decides; what save_pretrained writes, and logits."""
    torch.manual_seed(13)
    config.architectures = [type(config).__name__.replace("Config", "ForCausalLM")]
    config._attn_implementation = "eager"
    model = getattr(transformers, config.architectures[0])(config).to(torch.float32).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(1.0 if "norm" in name else 0.0, 0.3 if "norm" in name else 0.15)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.normal_(0.0, 0.2)
    model.save_pretrained(folder)
    tokens, logits = forward_hf(model)
    further = getattr(config, "num_nextn_predict_layers", 0)
    return model, tokens, [logits] + (add_mtp(model, further, folder, tokens) if further else [])


def add_mtp(model, count, folder, tokens):
    """Layers that predict further tokens, as DeepSeek-V3's files have them after the others, with copies of embedding and
    head. Returns their logits, by transformers' MtpModel. The names are those that transformers' conversion_mapping.py reads
    (from_pretrained itself looks for layer 61 alone)."""
    mtp, last = MtpModel(model, count).to(torch.float32).eval(), model.config.num_hidden_layers
    tensors = load_file(os.path.join(folder, "model.safetensors"))
    with torch.no_grad():
        weights = {n: w for n, w in [*mtp.named_parameters(), *mtp.named_buffers()] if n.startswith("layers.")}
        for name, weight in weights.items():
            weight.normal_(1.0 if "norm" in name else 0.0, 0.3 if "norm" in name else 0.15)
            _, k, rest = name.split(".", 2)
            rest = rest.replace("mtp_block.", "").replace("post_norm.", "shared_head.norm.") if "layernorm" not in rest else rest.replace("mtp_block.", "")
            prefix = f"model.layers.{last + int(k)}."
            if rest == "mlp.experts.gate_up_proj":
                for e, both in enumerate(weight):
                    tensors[f"{prefix}mlp.experts.{e}.gate_proj.weight"], tensors[f"{prefix}mlp.experts.{e}.up_proj.weight"] = both.chunk(2)
            elif rest == "mlp.experts.down_proj":
                tensors.update({f"{prefix}mlp.experts.{e}.down_proj.weight": one for e, one in enumerate(weight)})
            else:
                tensors[prefix + rest] = weight
        for k in range(count):
            tensors[f"model.layers.{last + k}.embed_tokens.weight"] = model.model.embed_tokens.weight
            tensors[f"model.layers.{last + k}.shared_head.head.weight"] = model.lm_head.weight
        save_file({n: t.detach().clone().contiguous() for n, t in tensors.items()}, os.path.join(folder, "model.safetensors"),
                  metadata={"format": "pt"})
        hidden, logits = model.model(tokens).last_hidden_state, []
        positions = torch.arange(tokens.shape[1])[None]
        for k in range(count):
            tokens = torch.cat([tokens[:, 1:], torch.zeros_like(tokens[:, :1])], 1)
            hidden = mtp.forward_layer(k, hidden, positions, None, input_ids=tokens)
            logits.append(model.lm_head(hidden))
    return logits


# --- in Megatron -----------------------------------------------------------------------------------------

class CoreAttention(DotProductAttention):
    """Megatron's own attention on a CPU. MLASelfAttention tells it the sizes of keys and values as well, which Transformer
    Engine's wants to know; this one takes them from the tensors, and that of values from kv_channels."""

    def __init__(self, *args, k_channels=None, v_channels=None, **kwargs):
        super().__init__(*args, **kwargs)


def on_cpu(spec):
    for layer in spec.layer_specs:
        layer.submodules.self_attention.submodules.core_attention = CoreAttention
    return spec


def config_from(args):
    return MLATransformerConfig(
        **config_fields(args), q_lora_rank=args.q_lora_rank, kv_lora_rank=args.kv_lora_rank, qk_head_dim=args.qk_head_dim,
        qk_pos_emb_head_dim=args.qk_pos_emb_head_dim, v_head_dim=args.v_head_dim, rope_type=args.rope_type,
        rotary_base=args.rotary_base, rotary_percent=args.rotary_percent, rotary_scaling_factor=args.rotary_scaling_factor,
        original_max_position_embeddings=args.original_max_position_embeddings, beta_fast=args.beta_fast,
        beta_slow=args.beta_slow, mscale=args.mscale, mscale_all_dim=args.mscale_all_dim,
        moe_router_enable_expert_bias=args.moe_router_enable_expert_bias, moe_router_num_groups=args.moe_router_num_groups,
        mtp_num_layers=args.mtp_num_layers, moe_router_group_topk=args.moe_router_group_topk, moe_router_topk_scaling_factor=args.moe_router_topk_scaling_factor)


def all_logits(chunk, tokens, config):
    """Megatron computes the logits of further tokens on the way to a loss, and keeps them to itself: the head is asked
    again. It has to be told labels then; the loss is not looked at."""
    if not config.mtp_num_layers:
        logits = through_stages(chunk, tokens, config)
        return logits if logits is None else [logits]
    hidden, asked = [], chunk.forward
    if hasattr(chunk, "mtp"):
        chunk.mtp.register_forward_hook(lambda module, args, out: hidden.append(out))
    chunk.forward = lambda ids, positions, mask: asked(ids, positions, mask, labels=ids)
    through_stages(chunk, tokens, config)
    return [chunk.output_layer(h)[0].transpose(0, 1).float() for h in hidden[0].chunk(1 + config.mtp_num_layers)] if hidden else None


def megatron_logits(rank, cut, folder, tokens):
    """Every rank loads its file, strictly. Returns the logits of all processes of the last stage: of the next token, then
    of each further one."""
    tp, pp, ep, etp = cut
    parallel_state.destroy_model_parallel()
    parallel_state.initialize_model_parallel(tp, pp, expert_model_parallel_size=ep, expert_tensor_parallel_size=etp)
    args = rank_args(folder, place(pp, ep), cut)
    assert args.multi_latent_attention and args.qk_layernorm, "args of another attention"
    assert args.world_size == torch.distributed.get_world_size(), f"world_size {args.world_size}"
    config = config_from(args)
    spec = on_cpu(get_gpt_decoder_block_spec(config, use_transformer_engine=False, normalization="RMSNorm"))
    chunk = GPTModel(
        config=config, transformer_layer_spec=spec,
        mtp_block_spec=get_gpt_mtp_block_spec(config, spec, False) if config.mtp_num_layers else None, vocab_size=args.padded_vocab_size,
        max_sequence_length=args.max_position_embeddings, pre_process=parallel_state.is_pipeline_first_stage(),
        post_process=parallel_state.is_pipeline_last_stage(), parallel_output=False,
        share_embeddings_and_output_weights=not args.untie_embeddings_and_output_weights,
        position_embedding_type=args.position_embedding_type, rotary_base=args.rotary_base).eval()
    load_chunk(folder, place(pp, ep), chunk)
    with torch.no_grad():
        logits = all_logits(chunk, tokens, config)
    everyone = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, logits)
    return [x for x in everyone if x is not None]


# --- the checks --------------------------------------------------------------------------------------------

def te_names(ranks, tp, pp):
    """Files of the local spec as Transformer Engine's layers spell them, by rank: norms of linears that follow one,
    experts numbered in one module, and down projections whole on every rank.
    Source: megatron/core/models/gpt/gpt_layer_specs.py (TELinear is made with parallel_mode "duplicated")"""
    out = {}
    for rank, state in ranks.items():
        new = {}
        stage = rank[10:14] if pp > 1 else ""       # of two ranks with one TP index any will do
        peers = [next(r for r in sorted(ranks) if r.startswith(f"mp_rank_{t:02d}{stage}")) for t in range(tp)]
        for name, value in state.items():
            layer = name.split(".")[2] if name.startswith("decoder.layers.") else None
            name_was = name
            name = name.replace("q_layernorm.", "linear_q_up_proj.layer_norm_").replace("kv_layernorm.", "linear_kv_up_proj.layer_norm_")
            if layer is not None and f"decoder.layers.{layer}.mlp.router.weight" not in state:
                name = name.replace("pre_mlp_layernorm.", "mlp.linear_fc1.layer_norm_")
            if ".local_experts." in name:
                head, tail = name.split(".local_experts.")
                number, rest = tail.split(".", 1)
                name = f"{head}.{rest}" + ("" if rest.endswith("_extra_state") else number)
            if name.endswith(("linear_q_down_proj.weight", "linear_kv_down_proj.weight")):
                value = torch.cat([ranks[p][name_was] for p in peers])
            if value is not None:
                new[name] = value
        out[rank] = new
    return out


def inspect_is_right(seen, model, hf, config, family, cut):
    of_model = sum(p.numel() for p in model.parameters()) + sum(
        b.numel() for n, b in model.named_buffers() if n.endswith("e_score_correction_bias"))
    further = [f".layers.{config.num_hidden_layers + k}." for k in range(getattr(config, "num_nextn_predict_layers", 0))]
    of_mtp = {n: t.numel() for n, t in load_file(os.path.join(hf, "model.safetensors")).items()
              if any(f in n for f in further) and not n.endswith(("embed_tokens.weight", "head.weight"))}
    total = of_model + sum(of_mtp.values())
    assert seen["family"] == family and seen["params"] == total, (seen["family"], seen["params"], total)
    for key, hf in dict(q_lora_rank="q_lora_rank", kv_lora_rank="kv_lora_rank", qk_head_dim="qk_nope_head_dim", v_head_dim="v_head_dim",
                        qk_pos_emb_head_dim="qk_rope_head_dim", num_attention_heads="num_attention_heads").items():
        assert seen["config"].get(key) == getattr(config, hf), (key, seen["config"].get(key))
    parallel = seen["parallel"]
    assert tuple(parallel[k] for k in ("tp", "pp", "ep", "etp")) == cut or family == "minicpm3", parallel
    assert not [p for p in seen["problems"] if p["severity"] == "error"], seen["problems"]
    if family == "minicpm3":
        return
    experts = sum(p.numel() for n, p in model.named_parameters() if ".experts." in n)
    topk, count = config.num_experts_per_tok, config.n_routed_experts
    want = dict(num_experts=count, topk=topk, layers=list(range(config.first_k_dense_replace, config.num_hidden_layers)),
                expert_params=experts + sum(n for name, n in of_mtp.items() if ".experts." in name),
                active_params=of_model - experts + experts // count * topk)
    for key, value in want.items():
        assert seen["moe"][key] == value, f"moe.{key} is {seen['moe'][key]}, not {value}"


CONFIG_KEYS = ("hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads vocab_size rms_norm_eps "
               "max_position_embeddings tie_word_embeddings n_routed_experts n_shared_experts num_experts_per_tok moe_intermediate_size "
               "norm_topk_prob first_k_dense_replace routed_scaling_factor num_nextn_predict_layers q_lora_rank kv_lora_rank qk_nope_head_dim "
               "qk_rope_head_dim v_head_dim scale_emb scale_depth dim_model_base").split()


def config_is_right(folder, want):
    have = transformers.AutoConfig.from_pretrained(folder)
    assert type(have) is type(want), type(have)
    for key in CONFIG_KEYS:
        if key != "scale_depth" or getattr(want, key, None) is not None:
            assert getattr(have, key, None) == getattr(want, key, None), f"{key} is {getattr(have, key, None)}, not {getattr(want, key, None)}"
    if (getattr(want, "n_group", None) or 1) > 1:
        assert (have.n_group, have.topk_group) == (want.n_group, want.topk_group)
    for key, value in want.rope_parameters.items():
        if key != "type":
            assert have.rope_parameters.get(key, 1.0) == value, f"{key}: {have.rope_parameters}"


def through_dist(work, lens, name, config, hf, truth, cut):
    """By way of torch_dist, at the cut it names and at another one."""
    tp, pp, ep, etp = cut
    dst, back = (os.path.join(work, f"{name}-{x}".replace(" ", "_")) for x in ("dist", "dist-back"))
    tokens, want = truth
    lens("convert", hf, dst, "--to", "torch_dist", "--names", "local", "--dist-files", 2, "--tp", tp, "--pp", pp, "--ep", ep, "--etp", etp,
         "--make-vocab-size-divisible-by", 6, "--progress", "none")
    for at in (cut, (1, 1, 1, 1)):
        try:
            got = on_ranks(processes(*at), megatron_logits, at, iteration_folder(dst), tokens)
        except SystemExit as e:
            raise AssertionError(e) from None
        apart = max((x[..., :config.vocab_size] - w).abs().max().item() for one in got for x, w in zip(one, want))
        assert {len(x) for x in got} == {len(want)} and apart <= NEAR, f"{at}: logits differ by {apart:.2e}"
    lens("verify", hf, dst, "--progress", "none")
    lens("convert", dst, back, "--to", "hf", "--progress", "none")
    lens("verify", hf, back, "--progress", "none")


def one_cut(work, lens, Tally, Row, name, config, hf, model, truth, cut):
    tp, pp, ep, etp = cut
    case = f"tp{tp} pp{pp} ep{ep} etp{etp}"
    family, row = name.split()[0], Row(name[:12], case)
    row.proves(family, case, ["to Megatron", "to Hugging Face"], LOGITS)
    dst, te, back = (os.path.join(work, f"{name}-{case}-{x}".replace(" ", "_")) for x in ("local", "te", "back"))
    sizes = ["--tp", tp, "--pp", pp, "--ep", ep, "--etp", etp, "--make-vocab-size-divisible-by", 6, "--progress", "none"]
    with Tally.check(row, "convert to Megatron, verify"):
        lens("convert", hf, dst, "--to", "megatron", *sizes, "--names", "local", "--experts", "local")
        lens("verify", hf, dst, "--progress", "none")
    with Tally.check(row, "every rank loads strictly; logits as transformers'"):
        tokens, want = truth
        try:
            got = on_ranks(processes(*cut), megatron_logits, cut, os.path.join(dst, "release"), tokens)
        except SystemExit as e:                      # the rank has said why
            raise AssertionError(e) from None
        assert got, "no process of the last stage"
        assert {len(x) for x in got} == {len(want)}, "further tokens"
        apart = max((x[..., :config.vocab_size] - w).abs().max().item() for one in got for x, w in zip(one, want))
        row.note = f"logits within {apart:.1e} ({want[0].abs().max():.1f} largest)"
        assert apart <= NEAR, f"logits differ by {apart:.2e}"
    with Tally.check(row, "inspect"):
        inspect_is_right(json.loads(lens("inspect", dst, "--json").stdout), model, hf, config, family, cut)
    with Tally.check(row, "check --deep finds nothing wrong"):
        lens("check", dst, "--deep", "--progress", "none")
    with Tally.check(row, "Transformer Engine's names: the same by rank"):
        lens("convert", dst, te, "--to", "megatron", *sizes)
        local, renamed = rank_files(os.path.join(dst, "release")), rank_files(os.path.join(te, "release"))
        want = te_names(local, tp, pp)
        assert set(local) == set(renamed), sorted(renamed)
        for rank in local:
            same({k: v for k, v in renamed[rank].items() if v is not None}, want[rank])
    for source, what in ((dst, "local names"), (te, "Transformer Engine's names")):
        with Tally.check(row, f"back from {what}, bit for bit"):
            shutil.rmtree(back, ignore_errors=True)
            lens("convert", source, back, "--to", "hf", "--progress", "none")
            if getattr(config, "rope_interleave", True):
                same(load_file(os.path.join(back, "model.safetensors")), load_file(os.path.join(hf, "model.safetensors")))
            lens("verify", hf, back, "--progress", "none")
    with Tally.check(row, "config.json; transformers: the same logits"):
        config_is_right(back, config)
        again = getattr(transformers, config.architectures[0]).from_pretrained(
            back, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            wrong = [k for k in again[1].get(kind) or () if int(k.split(".")[2]) < config.num_hidden_layers]
            assert not wrong, f"{kind}: {sorted(wrong)[:3]}"
        exact = getattr(config, "rope_interleave", True)
        apart = (forward_hf(again[0].eval())[1] - truth[1][0]).abs().max().item()
        assert apart == 0 if exact else apart <= NEAR, f"logits differ by {apart:.2e}"
    row.done()


# --- 8-bit floats ------------------------------------------------------------------------------------------

BLOCK = (16, 8)                 # of the published models: 128 x 128


def quantised(weights):
    """Matrices as 8-bit floats with a factor for each block, as DeepSeek-V3 is published; and what its own
    fp8_cast_bf16.py makes of them again, block by block: weight.to(float32) * factor."""
    stored, meant = {}, {}
    for name, w in weights.items():
        if w.ndim != 2 or "proj" not in name or "eh_proj" in name:
            stored[name] = meant[name] = w if name.endswith("e_score_correction_bias") else w.to(torch.bfloat16)
            continue
        q, scale = torch.zeros(w.shape, dtype=torch.float8_e4m3fn), torch.zeros(*(-(-n // b) for n, b in zip(w.shape, BLOCK)))
        whole = torch.zeros(w.shape)
        for i in range(scale.shape[0]):
            for j in range(scale.shape[1]):
                at = (slice(i * BLOCK[0], (i + 1) * BLOCK[0]), slice(j * BLOCK[1], (j + 1) * BLOCK[1]))
                scale[i, j] = w[at].abs().max() / 448
                q[at] = (w[at] / scale[i, j]).to(torch.float8_e4m3fn)
                whole[at] = q[at].to(torch.float32) * scale[i, j]
        stored[name], stored[name + "_scale_inv"], meant[name] = q, scale, whole
    return stored, meant


def run_fp8(work, lens, Tally, Row, hf):
    row, src, dst = Row("deepseek-v3", "fp8 blocks"), os.path.join(work, "fp8"), os.path.join(work, "fp8-out")
    stored, meant = quantised(load_file(os.path.join(hf, "model.safetensors")))
    with open(os.path.join(hf, "config.json")) as f:
        config = json.load(f)
    config["quantization_config"] = dict(quant_method="fp8", fmt="e4m3", weight_block_size=BLOCK, activation_scheme="dynamic")

    def write(tensors):
        os.makedirs(src, exist_ok=True)
        save_file(tensors, os.path.join(src, "model.safetensors"), metadata={"format": "pt"})
        with open(os.path.join(src, "config.json"), "w") as f:
            json.dump(config, f)

    def convert(source, *options):
        shutil.rmtree(dst, ignore_errors=True)
        lens("convert", source, dst, "--to", "hf", "--progress", "none", *options)
        return load_file(os.path.join(dst, "model.safetensors"))

    write(stored)
    halves = {n: t if t.dtype != torch.float32 or n.endswith("bias") else t.to(torch.bfloat16) for n, t in meant.items()}
    with Tally.check(row, "to bf16, as torch multiplies and rounds"):
        same(convert(src), halves)
        with open(os.path.join(dst, "config.json")) as f:
            assert "quantization_config" not in json.load(f)
    with Tally.check(row, "verify: the same values"):
        lens("verify", src, dst, "--progress", "none")
    with Tally.check(row, "to fp32, every product exact"):
        same(convert(src, "--dtype", "fp32"), {n: t.to(torch.float32) for n, t in meant.items()})
    with Tally.check(row, "over Megatron at tp 2, ep 3, and back"):
        megatron = os.path.join(work, "fp8-megatron")
        lens("convert", src, megatron, "--to", "megatron", "--tp", 2, "--pp", 2, "--ep", 3, "--etp", 1, "--progress", "none")
        lens("verify", src, megatron, "--progress", "none")
        same(convert(megatron), halves)
    with Tally.check(row, "check --deep finds nothing wrong"):
        lens("check", src, "--deep", "--progress", "none")
    with Tally.check(row, "one changed factor is a difference"):
        name = next(n for n in stored if n.endswith("o_proj.weight_scale_inv"))
        write({**stored, name: stored[name] * 2})
        assert lens("verify", src, dst, "--progress", "none", want=1)
    with Tally.check(row, "absent or misshapen factors are refused"):
        write({n: t for n, t in stored.items() if n != name})
        done = lens("convert", src, dst + "-none", "--to", "hf", "--progress", "none", want=3)
        assert name in done.stderr, done.stderr
        write({**stored, name: stored[name][:, 1:].contiguous()})
        done = lens("convert", src, dst + "-none", "--to", "hf", "--progress", "none", want=3)
        assert "is expected, one factor for each block of 16x8" in done.stderr, done.stderr
    row.done()


# --- other spellings ------------------------------------------------------------------------------------------

def rope_rows(weight, heads, before, rope, halves):
    """The last `rope` of `before` + `rope` rows of each head in the other order: halves True: interleaved rows come out
    as two halves."""
    w = weight.clone().view(heads, before + rope, -1)
    last = w[:, before:].clone()
    w[:, before:] = torch.cat([last[:, 0::2], last[:, 1::2]], 1) if halves else torch.stack(last.chunk(2, 1), 2).flatten(1, 2)
    return w.view_as(weight)


def respelled(ranks, config, tp, spelling, halves):
    """Local-spec files as OpenBMB's fork ("fork") or MindSpeed-LLM ("mindspeed") name them. The fork cuts down projections
    as the local spec does; MindSpeed-LLM keeps q_a over kv_a whole in linear_qkv (LinearNoTP).
    Source: ModelConverterTool hf_to_megatron_minicpm4.py; MindSpeed-LLM plm_spec.py and loader_hf.py"""
    nope, rope, heads = config.qk_nope_head_dim, config.qk_rope_head_dim, config.num_attention_heads // tp
    fork = dict(linear_q_down_proj="linear_q_down", linear_q_up_proj="linear_q_up", linear_kv_down_proj="linear_kv_down",
                linear_kv_up_proj="linear_kv_up")
    mind = dict(linear_q_up_proj="linear_qb", linear_kv_up_proj="linear_kvb", kv_layernorm="k_layernorm")
    out = {}
    for rank, state in ranks.items():
        new = {}
        whole = lambda name: torch.cat([ranks[f"mp_rank_{t:02d}{rank[10:]}"][name] for t in range(tp)])
        for name, value in state.items():
            if value is None or "self_attention" not in name:
                new[name] = value
                continue
            head, part, last = name.rsplit(".", 2)
            if part == "linear_q_up_proj" and halves:
                value = rope_rows(value, heads, nope, rope, True)
            if part == "linear_kv_down_proj":
                value = whole(name)
                value = rope_rows(value, 1, config.kv_lora_rank, rope, True) if halves else value
                value = value.chunk(tp)[int(rank[8:10])].clone() if spelling == "fork" else value
            if spelling == "mindspeed" and part == "linear_q_down_proj":
                continue
            if spelling == "mindspeed" and part == "linear_kv_down_proj":
                new[f"{head}.linear_qkv.{last}"] = torch.cat([whole(name.replace("linear_kv_", "linear_q_")), value])
                continue
            new[f"{head}.{(fork if spelling == 'fork' else mind).get(part, part)}.{last}"] = value
        out[rank] = new
    return out


SPELLINGS = [                   # model, spelling, rotary rows in halves, args beside those of Megatron
    ("minicpm3", "fork", True, dict(use_mla=True)),
    ("minicpm3", "mindspeed", True, dict(multi_head_latent_attention=True)),
    ("deepseek-v3", "mindspeed", False, dict(multi_head_latent_attention=True, rope_scaling_type="yarn")),
    ("deepseek-v3", "mindspeed", True, dict(multi_head_latent_attention=True)),
    ("deepseek-v3", "mindspeed", False, dict(multi_latent_attention=True))]


def run_spelling(work, lens, Tally, Row, hf, config, name, spelling, halves, more):
    row = Row(name, f"{spelling}, rope in {'halves' if halves else 'pairs'}")
    local, dst, back = (os.path.join(work, f"{spelling}-{name}-{x}") for x in ("local", "out", "back"))
    for folder in (local, dst, back):
        shutil.rmtree(folder, ignore_errors=True)
    with Tally.check(row, "back from it, bit for bit"):
        lens("convert", hf, local, "--to", "megatron", "--tp", 2, "--names", "local", "--experts", "local", "--progress", "none")
        new = respelled(rank_files(os.path.join(local, "release")), config, 2, spelling, halves)
        for rank, state in new.items():
            path = os.path.join(local, "release", rank, "model_optim_rng.pt")
            file = torch.load(path, weights_only=False)
            file["model"], file["args"].multi_latent_attention = state, False
            vars(file["args"]).update(more)
            torch.save(file, path)
        lens("convert", local, back, "--to", "hf", "--progress", "none")
        same(load_file(os.path.join(back, "model.safetensors")), load_file(os.path.join(hf, "model.safetensors")))
    row.done()


def run_kimi(work, lens, Tally, Row, hf, truth, cut):
    """Kimi-K2 is DeepSeek-V3 under a model_type of its own, with code beside the weights instead of a class."""
    tp, pp, ep, etp = cut
    case = f"tp{tp} pp{pp} ep{ep} etp{etp}"
    row, src, dst = Row("kimi-k2", case), os.path.join(work, "kimi-k2"), os.path.join(work, f"kimi-k2-{case}".replace(" ", "_"))
    row.proves("kimi-k2", case, ["to Megatron", "to Hugging Face"], LOGITS)
    shutil.copytree(hf, src, dirs_exist_ok=True)
    with open(os.path.join(hf, "config.json")) as f:
        config = json.load(f)
    config.update(model_type="kimi_k2", auto_map={"AutoConfig": "configuration_deepseek.DeepseekV3Config"})
    with open(os.path.join(src, "config.json"), "w") as f:
        json.dump(config, f)
    with open(os.path.join(src, "configuration_deepseek.py"), "w") as f:
        f.write("# its publisher's code\n")
    with Tally.check(row, "over Megatron and back, bit for bit, by its config.json"):
        lens("convert", src, dst, "--to", "megatron", "--tp", tp, "--pp", pp, "--ep", ep, "--etp", etp, "--names", "local",
             "--experts", "local", "--progress", "none")
        lens("convert", dst, dst + "-back", "--to", "hf", "--hf-config", src, "--progress", "none")
        same(load_file(os.path.join(dst + "-back", "model.safetensors")), load_file(os.path.join(hf, "model.safetensors")))
    with Tally.check(row, "every rank loads strictly; logits as transformers'"):
        got = on_ranks(processes(*cut), megatron_logits, cut, os.path.join(dst, "release"), truth[0])
        apart = max((x[..., :config["vocab_size"]] - w).abs().max().item() for one in got for x, w in zip(one, truth[1]))
        row.note = f"logits within {apart:.1e}"
        assert got and apart <= NEAR, f"logits differ by {apart:.2e}"
    with Tally.check(row, "config.json names it, and its code is there"):
        assert json.loads(lens("inspect", dst + "-back", "--json").stdout)["family"] == "kimi-k2"
        with open(os.path.join(dst + "-back", "config.json")) as f:
            have = json.load(f)
        assert (have["model_type"], have["architectures"]) == ("kimi_k2", ["DeepseekV3ForCausalLM"]), have
        assert have["auto_map"] == config["auto_map"] and os.path.exists(os.path.join(dst + "-back", "configuration_deepseek.py"))
    row.done()


def run(work, lens, Tally, Row):
    folders, truths = {}, {}
    for name, (config, cuts) in models().items():
        print(f"\n{name}")
        folders[name] = hf = os.path.join(work, "latent", name.replace(" ", "_"), "hf")
        os.makedirs(hf, exist_ok=True)
        model, *truth = make_hf(config, hf)
        truths[name] = truth
        for cut in cuts:
            one_cut(os.path.dirname(hf), lens, Tally, Row, name, config, hf, model, truth, cut)
        row = Row(name[:12], "torch_dist")
        with Tally.check(row, "loaded strictly at two cuts, logits as transformers', and back"):
            through_dist(os.path.dirname(hf), lens, name, config, hf, truth, cuts[0])
        row.done()
    print("\nlatent attention, other sources")
    other = os.path.join(work, "latent", "other")
    os.makedirs(other, exist_ok=True)
    for name, spelling, halves, more in SPELLINGS:
        run_spelling(other, lens, Tally, Row, folders[name], models()[name][0], name, spelling, halves, more)
    for cut in ((2, 1, 2, 1), (1, 2, 3, 1)):
        run_kimi(other, lens, Tally, Row, folders["deepseek-v3 moonlight"], truths["deepseek-v3 moonlight"], cut)
    run_fp8(other, lens, Tally, Row, folders["deepseek-v3 mtp"])
