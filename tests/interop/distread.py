"""Reading torch_dist: what Megatron's dist_checkpointing saves from the GPTModel of several processes becomes the Hugging
Face model whose logits are those of the model that was trained, rank folders that torch merges to the same weights, and
one .pt file."""
import os
import shutil

import torch

import dist_files
from megatron_tiny import Cut, on_ranks

# tp, pp, how it is saved (tests/fixtures/dist_files.py)
SAVES = {
    "dist tp1 pp1": (1, 1, {}), "dist tp2 pp1": (2, 1, dict(writers=2)), "dist tp1 pp2": (1, 2, dict(optimizer=True)),
    "dist tp2 pp2": (2, 2, dict(common_state=True)), "dist tp2 singleton": (2, 1, dict(singleton=True)),
}


def save(model, base, case, folder):
    tp, pp, how = SAVES[case]
    cut = Cut(tp, pp, first_stage=model.layers - model.layers // 2 if model.layers % pp else None)
    shutil.rmtree(folder, ignore_errors=True)
    on_ranks(cut.world, dist_files.dense_work, model, cut, base, os.path.join(folder, "iter_0000010"), how)
    return folder


def run(family, ranks_args, work, api):
    """api: convert, lens, load_ranks, merge, same_tensors, Tally, Row of interop.py."""
    model, last = family.model, None
    for case in SAVES:
        last = save(model, family.base, case, os.path.join(work, "dist-src", model.family, case.replace(" ", "_")))
        api.convert(family, case, last, work)
    row = api.Row(model.family, "dist to rank folders, to pt")
    src = os.path.join(work, "dist-src", model.family, "dist_tp2_pp2")
    ranks, file = os.path.join(work, "dist-src", model.family + "-ranks"), os.path.join(work, "dist-src", model.family + ".pt")
    with api.Tally.check(row, "convert to tp2: torch merges it to the same weights"):
        api.lens("convert", src, ranks, "--to", "megatron", "--tp", 2, "--names", "local", "--progress", "none", "--force")
        api.same_tensors(api.merge(api.load_ranks(ranks), ranks_args), family.want)
    with api.Tally.check(row, "convert to one .pt file"):
        api.lens("convert", src, file, "--to", "pt", "--progress", "none", "--force")
        api.same_tensors(torch.load(file, weights_only=True), family.want)
    with api.Tally.check(row, "verify against the rank folders, and against the other save"):
        api.lens("verify", src, ranks, "--progress", "none")
        api.lens("verify", src, last, "--progress", "none")
    with api.Tally.check(row, "check --deep finds nothing wrong"):
        api.lens("check", src, "--deep", "--progress", "none")
    row.done()
