#!/usr/bin/env python3
"""A distributed checkpoint as large as they come, without its data: dist_scale.py FOLDER [KEYS] [FILES].

Writes the .metadata of KEYS (60000) weights of a mixture of experts, layers and experts by number, in two chunks
each, over FILES (512) sparse files, with the plans of the save that Megatron leaves in it. Needs no torch: classes
are pickled by name.
"""
import json
import math
import os
import pickle
import sys
import types


def module(name):
    parts = name.split(".")
    for i in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    return sys.modules[name]


def new_class(where, name):
    cls = type(name, (), {"__module__": where, "__init__": lambda self, **fields: self.__dict__.update(fields)})
    setattr(module(where), name, cls)
    return cls


META, FILESYSTEM, PLANNER = ("torch.distributed.checkpoint." + n for n in ("metadata", "filesystem", "planner"))
Metadata, TensorStorageMetadata, ChunkStorageMetadata, BytesStorageMetadata, MetadataIndex = (
    new_class(META, n) for n in ("Metadata", "TensorStorageMetadata", "ChunkStorageMetadata", "BytesStorageMetadata", "MetadataIndex"))
StorageInfo = new_class(FILESYSTEM, "_StorageInfo")
SavePlan, WriteItem, TensorWriteData = (new_class(PLANNER, n) for n in ("SavePlan", "WriteItem", "TensorWriteData"))


class Name:
    """Pickled as the global torch.NAME."""
    def __init__(self, name):
        self.name = name
        self.__module__ = "torch"
        setattr(module("torch"), name, self)

    def __reduce__(self):
        return self.name


BF16, STRIDED = Name("bfloat16"), Name("strided")


class Size(tuple):
    def __reduce__(self):
        return Size, (tuple(self),)


Size.__module__ = "torch"
Size.__qualname__ = "Size"
module("torch").Size = Size


class TensorProperties:
    def __getstate__(self):
        return BF16, STRIDED, False, 0, False


TensorProperties.__module__ = META
module(META).TensorProperties = TensorProperties


def keys(count):
    """A Qwen3-MoE of 256 experts and as many layers as `count` keys are enough for."""
    hidden, ffn, heads, groups, head, vocab, experts = 2048, 1024, 32, 4, 128, 151936, 256
    per_layer = 2 * experts + 7
    layer = "decoder.layers.%d."
    yield "embedding.word_embeddings.weight", (vocab, hidden)
    yield "output_layer.weight", (vocab, hidden)
    yield "decoder.final_layernorm.weight", (hidden,)
    for n in range((count - 3) // per_layer):
        at = layer % n
        yield at + "self_attention.linear_qkv.layer_norm_weight", (hidden,)
        yield at + "self_attention.linear_qkv.weight", ((heads + 2 * groups) * head, hidden)
        yield at + "self_attention.linear_proj.weight", (hidden, heads * head)
        yield at + "self_attention.q_layernorm.weight", (head,)
        yield at + "self_attention.k_layernorm.weight", (head,)
        yield at + "pre_mlp_layernorm.weight", (hidden,)
        yield at + "mlp.router.weight", (experts, hidden)
        for expert in range(experts):
            yield at + f"mlp.experts.experts.{expert}.linear_fc1.weight", (2 * ffn, hidden)
            yield at + f"mlp.experts.experts.{expert}.linear_fc2.weight", (hidden, ffn)


def main(folder, count=60000, files=512):
    os.makedirs(folder, exist_ok=True)
    ends, state, storage, plans = [0] * files, {}, {}, [[] for _ in range(files)]
    for n, (key, shape) in enumerate(keys(count)):
        chunks, half = [], shape[0] // 2
        for k in range(2):
            file = (2 * n + k) % files
            offset, sizes = Size((k * half,) + (0,) * (len(shape) - 1)), Size((half,) + shape[1:])
            length = 2 * math.prod(sizes) + 1577
            chunks.append(ChunkStorageMetadata(offsets=offset, sizes=sizes))
            index = MetadataIndex(fqn=key, index=None, offset=offset)
            storage[index] = StorageInfo(relative_path=f"__{file}_0.distcp", offset=ends[file], length=length)
            plans[file].append(WriteItem(index=index, type=2, bytes_io_data=None,
                                         tensor_data=TensorWriteData(chunk=chunks[-1], properties=TensorProperties(), size=Size(shape))))
            ends[file] += length
        state[key] = TensorStorageMetadata(properties=TensorProperties(), size=Size(shape), chunks=chunks)
    meta = Metadata(state_dict_metadata=state, planner_data=None, storage_data=storage, storage_meta=None, version="1.0.0",
                    all_local_plans=[SavePlan(items=items, storage_data=None, planner_data=None) for items in plans])
    with open(os.path.join(folder, ".metadata"), "wb") as f:
        pickle.dump(meta, f, protocol=4)
    with open(os.path.join(folder, "metadata.json"), "w") as f:
        json.dump({"sharded_backend": "torch_dist", "sharded_backend_version": 1}, f)
    for file, end in enumerate(ends):
        with open(os.path.join(folder, f"__{file}_0.distcp"), "wb") as f:
            f.truncate(end)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
