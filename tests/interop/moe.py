"""Mixtures of experts: small random models of transformers' own classes, converted to Megatron at several
TP x PP x EP (x expert TP), loaded by every rank into Megatron-core's GPTModel (strict), their logits compared with
those of transformers; and back, bit for bit. The Megatron model is made from the args that shardlens wrote."""
import json
import math
import os
import shutil

import torch
import transformers
from safetensors.torch import load_file, save_file

from dist import iteration_folder, load_chunk, rank_args
from megatron_tiny import logits_of, on_ranks, parallel_state
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_decoder_block_spec
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.core.transformer.moe import moe_utils
from megatron.core.transformer.transformer_config import TransformerConfig

if not hasattr(moe_utils, "te_general_gemm"):       # without Transformer Engine the name is asked for, but never made
    moe_utils.te_general_gemm = None

NEAR = 1e-4                     # of logits in fp32
LOGITS = "loaded strictly by Megatron-core, logits as transformers'; back bit for bit"


def models():
    """name -> config; no two sizes of a matrix equal."""
    common = dict(rms_norm_eps=1e-6, max_position_embeddings=64, rope_theta=50000.0, bos_token_id=1, eos_token_id=2,
                  tie_word_embeddings=False, num_hidden_layers=4, num_key_value_heads=2)
    qwen3 = dict(common, vocab_size=71, hidden_size=52, intermediate_size=44, moe_intermediate_size=20, head_dim=10,
                 num_attention_heads=6, num_experts=12, num_experts_per_tok=3, decoder_sparse_step=1, norm_topk_prob=True,
                 mlp_only_layers=[1])
    qwen2 = {k: v for k, v in qwen3.items() if k != "head_dim"}
    return {
        "mixtral": transformers.MixtralConfig(**dict(
            common, vocab_size=83, hidden_size=40, intermediate_size=28, head_dim=14, num_attention_heads=4,
            num_local_experts=6, num_experts_per_tok=2, sliding_window=None)),
        "qwen3-moe": transformers.Qwen3MoeConfig(**qwen3),
        "qwen3-moe pre-softmax": transformers.Qwen3MoeConfig(**dict(
            qwen3, norm_topk_prob=False, mlp_only_layers=[], tie_word_embeddings=True)),
        "qwen2-moe": transformers.Qwen2MoeConfig(**dict(
            qwen2, hidden_size=60, norm_topk_prob=False, mlp_only_layers=[0, 2], shared_expert_intermediate_size=36)),
    }


# (tp, pp, ep, etp)
CUTS = {"mixtral": [(2, 1, 2, 1), (1, 2, 3, 1), (2, 2, 2, 2)], "qwen3-moe": [(2, 2, 1, 2), (1, 2, 3, 1), (2, 1, 4, 1)],
        "qwen3-moe pre-softmax": [(2, 1, 2, 2), (1, 1, 6, 1)],
        "qwen2-moe": [(2, 1, 4, 1), (2, 2, 2, 2)]}


def processes(tp, pp, ep, etp):
    return pp * math.lcm(tp, ep * etp)


def make_hf(config, folder):
    """Random weights, norms away from one; what save_pretrained writes, tokens, and logits."""
    torch.manual_seed(11)
    config.architectures = [type(config).__name__.replace("Config", "ForCausalLM")]
    config._attn_implementation = "eager"
    model = getattr(transformers, config.architectures[0])(config).to(torch.float32).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(1.0 if "norm" in name else 0.0, 0.3 if "norm" in name else 0.15)
    model.save_pretrained(folder)
    return model, forward_hf(model)


def forward_hf(model):
    tokens = torch.randint(0, model.config.vocab_size, (3, 11), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return tokens, model(input_ids=tokens).logits.float()


# --- in Megatron -----------------------------------------------------------------------------------------

def config_fields(args):
    return dict(
        num_layers=args.num_layers, hidden_size=args.hidden_size, ffn_hidden_size=args.ffn_hidden_size,
        num_attention_heads=args.num_attention_heads, kv_channels=args.kv_channels,
        num_query_groups=args.num_query_groups if args.group_query_attention else args.num_attention_heads,
        normalization=args.normalization, layernorm_epsilon=args.norm_epsilon, gated_linear_unit=args.swiglu,
        activation_func=torch.nn.functional.silu, add_bias_linear=args.add_bias_linear, add_qkv_bias=args.add_qkv_bias,
        qk_layernorm=args.qk_layernorm, num_moe_experts=args.num_experts, moe_router_topk=args.moe_router_topk,
        moe_ffn_hidden_size=args.moe_ffn_hidden_size, moe_layer_freq=args.moe_layer_freq,
        moe_router_pre_softmax=args.moe_router_pre_softmax, moe_router_score_function=args.moe_router_score_function,
        moe_shared_expert_intermediate_size=args.moe_shared_expert_intermediate_size,
        moe_shared_expert_gate=args.moe_shared_expert_gate, moe_router_load_balancing_type="none",
        moe_token_dispatcher_type="allgather", moe_grouped_gemm=False,
        hidden_dropout=0.0, attention_dropout=0.0, bias_activation_fusion=False, bias_dropout_fusion=False,
        masked_softmax_fusion=False, apply_rope_fusion=False, gradient_accumulation_fusion=False,
        persist_layer_norm=False, use_cpu_initialization=True, params_dtype=torch.float32, pipeline_dtype=torch.float32,
        tensor_model_parallel_size=args.tensor_model_parallel_size,
        pipeline_model_parallel_size=args.pipeline_model_parallel_size,
        expert_model_parallel_size=args.expert_model_parallel_size,
        expert_tensor_parallel_size=args.expert_tensor_parallel_size)


def place(pp, ep):
    """The folder of this process."""
    name = f"mp_rank_{parallel_state.get_tensor_model_parallel_rank():02d}"
    if pp > 1:
        name += f"_{parallel_state.get_pipeline_model_parallel_rank():03d}"
    return name + (f"_{parallel_state.get_expert_model_parallel_rank():03d}" if ep > 1 else "")


def through_stages(chunk, tokens, config):
    """This process' part of the pipeline; logits at the last stage."""
    first, last = parallel_state.is_pipeline_first_stage(), parallel_state.is_pipeline_last_stage()
    if not first:
        hidden = torch.empty(tokens.shape[1], tokens.shape[0], config.hidden_size)
        torch.distributed.recv(hidden, parallel_state.get_pipeline_model_parallel_prev_rank())
        chunk.set_input_tensor(hidden)
    out = logits_of(chunk, tokens)
    if not last:
        torch.distributed.send(out.contiguous(), parallel_state.get_pipeline_model_parallel_next_rank())
    return out if last else None


def megatron_logits(rank, cut, folder, tokens):
    """Every rank loads its file, strictly. Returns the logits of all processes of the last stage."""
    tp, pp, ep, etp = cut
    parallel_state.destroy_model_parallel()
    parallel_state.initialize_model_parallel(tp, pp, expert_model_parallel_size=ep, expert_tensor_parallel_size=etp)
    args = rank_args(folder, place(pp, ep), cut)
    assert args.world_size == torch.distributed.get_world_size(), f"world_size {args.world_size}"
    config = TransformerConfig(**config_fields(args))
    spec = get_gpt_decoder_block_spec(config, use_transformer_engine=False, normalization="RMSNorm")
    chunk = GPTModel(
        config=config, transformer_layer_spec=spec, vocab_size=args.padded_vocab_size,
        max_sequence_length=args.max_position_embeddings, pre_process=parallel_state.is_pipeline_first_stage(),
        post_process=parallel_state.is_pipeline_last_stage(), parallel_output=False,
        share_embeddings_and_output_weights=not args.untie_embeddings_and_output_weights,
        position_embedding_type=args.position_embedding_type, rotary_base=args.rotary_base).eval()
    load_chunk(folder, place(pp, ep), chunk)
    with torch.no_grad():
        logits = through_stages(chunk, tokens, config)
    everyone = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, logits)
    return [x for x in everyone if x is not None]


# --- the checks --------------------------------------------------------------------------------------------

def te_names(state, dense):
    """A local-spec state dict as Transformer Engine's layers spell it: norms of linears that follow one, experts
    numbered in one module. The norm before experts stays a module of its own."""
    out = {}
    for name, value in state.items():
        layer = name.split(".")[2] if name.startswith("decoder.layers.") else None
        name = name.replace("input_layernorm.", "self_attention.linear_qkv.layer_norm_")
        if layer is not None and f"decoder.layers.{layer}.mlp.router.weight" not in state:
            name = name.replace("pre_mlp_layernorm.", "mlp.linear_fc1.layer_norm_")
        if ".local_experts." in name:
            head, tail = name.split(".local_experts.")
            number, rest = tail.split(".", 1)
            name = f"{head}.{rest}" + ("" if rest.endswith("_extra_state") else number)
        if value is not None:
            out[name] = value
    return out


def same(have, want):
    assert set(have) == set(want), f"missing {sorted(set(want) - set(have))[:3]}, unexpected {sorted(set(have) - set(want))[:3]}"
    for name in want:
        assert have[name].dtype == want[name].dtype and torch.equal(have[name], want[name]), f"{name} differs"


def rank_files(folder):
    return {name: torch.load(os.path.join(folder, name, "model_optim_rng.pt"), weights_only=False)["model"]
            for name in sorted(os.listdir(folder)) if name.startswith("mp_rank_")}


def grouped_files(src, dst):
    """The same checkpoint as the legacy GroupedMLP stores it (megatron/core/transformer/moe/experts.py): weight1 is
    [hidden, experts 2f] over memory [experts, hidden, 2f], weight2 [experts f, hidden] over [experts, f, hidden]."""
    shutil.copytree(src, dst)
    for path, _, names in os.walk(dst):
        for name in names:
            if not name.endswith(".pt"):
                continue
            file = torch.load(os.path.join(path, name), weights_only=False)
            state, out = file["model"], type(file["model"])()
            for key, value in state.items():
                if ".local_experts." not in key:
                    out[key] = value
                    continue
                head = key.split(".local_experts.")[0]
                for fc, weight in (("linear_fc1", "weight1"), ("linear_fc2", "weight2")):
                    if f"{head}.{weight}" in out:
                        continue
                    count = sum(k.startswith(head + ".local_experts.") and k.endswith(fc + ".weight") for k in state)
                    one = torch.stack([state[f"{head}.local_experts.{i}.{fc}.weight"].t().contiguous() for i in range(count)])
                    out[f"{head}.{weight}"] = one.view(one.shape[1], -1) if fc == "linear_fc1" else one.view(-1, one.shape[2])
            file["model"] = out
            torch.save(file, os.path.join(path, name))


def inspect_is_right(seen, model, config, family, cut):
    moe = seen["moe"]
    experts = {k: p for k, p in model.named_parameters() if ".experts." in k}
    layers = [i for i in range(config.num_hidden_layers) if i not in (getattr(config, "mlp_only_layers", None) or [])]
    total, inside = sum(p.numel() for p in model.parameters()), sum(p.numel() for p in experts.values())
    count, topk = getattr(config, "num_local_experts", None) or config.num_experts, config.num_experts_per_tok
    want = dict(num_experts=count, topk=topk, layers=layers, expert_layout="local_experts", expert_params=inside,
                active_params=total - inside + inside // count * topk)
    for key, value in want.items():
        assert moe[key] == value, f"moe.{key} is {moe[key]}, not {value}"
    assert seen["family"] == family and seen["params"] == total, (seen["family"], seen["params"], total)
    parallel = seen["parallel"]
    assert tuple(parallel[k] for k in ("tp", "pp", "ep", "etp")) == cut, parallel
    assert not [p for p in seen["problems"] if p["severity"] == "error"], seen["problems"]


CONFIG_KEYS = ("hidden_size num_hidden_layers num_attention_heads num_key_value_heads head_dim vocab_size rms_norm_eps "
               "max_position_embeddings tie_word_embeddings num_local_experts num_experts num_experts_per_tok moe_intermediate_size "
               "norm_topk_prob mlp_only_layers decoder_sparse_step shared_expert_intermediate_size").split()


def config_is_right(folder, want):
    have = transformers.AutoConfig.from_pretrained(folder)
    assert type(have) is type(want), type(have)
    keys = CONFIG_KEYS + (["intermediate_size"] if want.model_type == "mixtral" or want.mlp_only_layers else [])
    for key in keys:
        assert getattr(have, key, None) == getattr(want, key, None), f"{key} is {getattr(have, key, None)}"
    assert have.rope_parameters["rope_theta"] == want.rope_parameters["rope_theta"], have.rope_parameters


def one_cut(work, lens, Tally, Row, name, config, hf, model, truth, cut):
    tp, pp, ep, etp = cut
    case = f"tp{tp} pp{pp} ep{ep} etp{etp}"
    family, row = name.split()[0], Row(name[:10], case)
    row.proves(family, case, ["to Megatron", "to Hugging Face"], LOGITS)
    dst, te, back = (os.path.join(work, f"{name}-{case}-{x}".replace(" ", "_")) for x in ("local", "te", "back"))
    sizes = ("--tp", tp, "--pp", pp, "--ep", ep, "--etp", etp, "--make-vocab-size-divisible-by", 6, "--progress", "none")
    with Tally.check(row, "convert to Megatron, verify"):
        lens("convert", hf, dst, "--to", "megatron", *sizes, "--names", "local", "--experts", "local")
        lens("verify", hf, dst, "--progress", "none")
    with Tally.check(row, "every rank loads strictly; logits as transformers'"):
        tokens, logits = truth
        try:
            got = on_ranks(processes(*cut), megatron_logits, cut, os.path.join(dst, "release"), tokens)
        except SystemExit as e:                      # the rank has said why
            raise AssertionError(e) from None
        assert got, "no process of the last stage"
        apart = max((x[..., :config.vocab_size] - logits).abs().max().item() for x in got)
        row.note = f"logits within {apart:.1e} ({logits.abs().max():.1f} largest)"
        assert apart <= NEAR, f"logits differ by {apart:.2e}"
    with Tally.check(row, "inspect"):
        inspect_is_right(json.loads(lens("inspect", dst, "--json").stdout), model, config, family, cut)
    with Tally.check(row, "check --deep finds nothing wrong"):
        lens("check", dst, "--deep", "--progress", "none")
    with Tally.check(row, "Transformer Engine's names: the same by rank"):
        lens("convert", dst, te, "--to", "megatron", *sizes)
        local, renamed = rank_files(os.path.join(dst, "release")), rank_files(os.path.join(te, "release"))
        assert set(local) == set(renamed), sorted(renamed)
        for rank in local:
            same({k: v for k, v in renamed[rank].items() if v is not None}, te_names(local[rank], config))
    spread = te + "-dist"
    with Tally.check(row, "torch_dist: every rank loads strictly; logits as transformers'"):
        lens("convert", dst, spread, "--to", "torch_dist", "--names", "local", "--dist-files", 2, *sizes)
        for at in {cut, (1, 1, ep, 1)} if cut == CUTS[name][0] else [(1, 1, ep, 1)]:
            try:
                got = on_ranks(processes(*at), megatron_logits, at, iteration_folder(spread), truth[0])
            except SystemExit as e:
                raise AssertionError(e) from None
            apart = max((x[..., :config.vocab_size] - truth[1]).abs().max().item() for x in got)
            assert apart <= NEAR, f"{at}: logits differ by {apart:.2e}"
    with Tally.check(row, "torch_dist: verify, check --deep"):
        lens("verify", hf, spread, "--progress", "none")
        lens("check", spread, "--deep", "--progress", "none")
    grouped = te + "-grouped"
    for source, what in ((spread, "torch_dist"), (dst, "local experts"), (te, "TE grouped experts"), (grouped, "legacy grouped experts")):
        with Tally.check(row, f"back from {what}, bit for bit"):
            if source == grouped:
                grouped_files(dst, grouped)
            shutil.rmtree(back, ignore_errors=True)
            lens("convert", source, back, "--to", "hf", "--progress", "none", *(("--model", family) if source in (te, grouped) else ()))
            same(load_file(os.path.join(back, "model.safetensors")), load_file(os.path.join(hf, "model.safetensors")))
    with Tally.check(row, "config.json; transformers: the same logits"):
        config_is_right(back, config)
        again = getattr(transformers, config.architectures[0]).from_pretrained(
            back, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            assert not again[1].get(kind), f"{kind}: {sorted(again[1][kind])[:3]}"
        assert torch.equal(forward_hf(again[0].eval())[1], truth[1]), "other logits"
    row.done()


def fused(work, lens, Tally, Row, name, config, hf, model):
    """The arrays that transformers' classes hold, [experts, 2f, hidden] and [experts, hidden, f], saved as they are: the same
    files come of them as of experts one by one."""
    row, folder = Row(name[:10], "experts in one array"), os.path.join(work, "fused")
    model.save_pretrained(folder, save_original_format=False)
    one_by_one = load_file(os.path.join(hf, "model.safetensors"))
    with Tally.check(row, "transformers saved arrays"):
        names = [k for k in load_file(os.path.join(folder, "model.safetensors")) if ".mlp.experts." in k]
        assert names and all(k.endswith(("experts.gate_up_proj", "experts.down_proj")) for k in names), names[:3]
    with Tally.check(row, "to Hugging Face, bit for bit as transformers saves them one by one"):
        lens("convert", folder, folder + "-hf", "--to", "hf", "--progress", "none", "--force")
        same(load_file(os.path.join(folder + "-hf", "model.safetensors")), one_by_one)
    with Tally.check(row, "over Megatron at tp 2, ep 2 and back"):
        lens("convert", folder, folder + "-mcore", "--to", "megatron", "--tp", 2, "--ep", 2, "--etp", 1, "--progress", "none", "--force")
        lens("verify", folder, folder + "-mcore", "--progress", "none")
        lens("convert", folder + "-mcore", folder + "-back", "--to", "hf", "--model", name.split()[0], "--progress", "none", "--force")
        same(load_file(os.path.join(folder + "-back", "model.safetensors")), one_by_one)
    row.done()
    shutil.rmtree(folder)


def run(work, lens, Tally, Row):
    for name, config in models().items():
        print(f"\n{name}")
        hf = os.path.join(work, "moe", name.replace(" ", "_"), "hf")
        os.makedirs(hf, exist_ok=True)
        model, truth = make_hf(config, hf)
        for cut in CUTS[name]:
            one_cut(os.path.dirname(hf), lens, Tally, Row, name, config, hf, model, truth, cut)
        fused(os.path.dirname(hf), lens, Tally, Row, name, config, hf, model)
