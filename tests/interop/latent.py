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
from moe import NEAR, config_fields, forward_hf, place, processes, rank_files, same, through_stages

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


def one_cut(work, lens, Tally, Row, name, config, hf, model, truth, cut):
    tp, pp, ep, etp = cut
    case = f"tp{tp} pp{pp} ep{ep} etp{etp}"
    family, row = name.split()[0], Row(name[:12], case)
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


def run(work, lens, Tally, Row):
    for name, (config, cuts) in models().items():
        print(f"\n{name}")
        hf = os.path.join(work, "latent", name.replace(" ", "_"), "hf")
        os.makedirs(hf, exist_ok=True)
        model, *truth = make_hf(config, hf)
        for cut in cuts:
            one_cut(os.path.dirname(hf), lens, Tally, Row, name, config, hf, model, truth, cut)
