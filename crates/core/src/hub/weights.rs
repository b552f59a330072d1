//! Where each tensor of a checkpoint lies in the network.

use super::config::Family;
use crate::nn::GptConfig;
use crate::train::read_tensors;
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use tch::Tensor;

/// A tensor of a checkpoint: all of a variable, or some of its rows.
#[derive(Debug)]
struct Slot {
    /// Name in the file, without the prefix of the whole network.
    file: String,
    /// Name in the network.
    variable: String,
    /// First row and number of rows, where the checkpoint splits what the network keeps in one.
    rows: Option<(i64, i64)>,
    /// Whether the file holds `[in, out]` (GPT-2's `Conv1D`).
    transposed: bool,
}

impl Slot {
    /// The slot's part of the network's variables, in the file's layout; a view.
    fn view(&self, variables: &BTreeMap<String, Tensor>) -> Tensor {
        let mut part = variables[&self.variable].shallow_clone();
        if let Some((from, len)) = self.rows {
            part = part.narrow(0, from, len);
        }
        if self.transposed { part.tr() } else { part }
    }
}

const HEAD: &str = "lm_head.weight";

/// What names of a whole network begin with; a checkpoint of the decoder without its head leaves it out.
fn prefix(family: Family) -> &'static str {
    match family {
        Family::Gpt2 => "transformer.",
        Family::Llama | Family::Qwen2 => "model.",
    }
}

fn token_embedding(family: Family) -> &'static str {
    match family {
        Family::Gpt2 => "wte.weight",
        Family::Llama | Family::Qwen2 => "embed_tokens.weight",
    }
}

/// All tensors of a checkpoint of this network.
fn slots(family: Family, c: &GptConfig) -> Vec<Slot> {
    let mut all = vec![];
    let mut put = |file: String, variable: String, rows, transposed| {
        all.push(Slot { file, variable, rows, transposed });
    };
    put(token_embedding(family).into(), "tokens.weight".into(), None, false);
    let head = c.attention().head();
    let (q, kv) = (head * c.heads, head * c.kv_heads);
    for i in 0..c.depth {
        let block = |name: &str| format!("blocks.{i}.{name}");
        match family {
            Family::Gpt2 => {
                for part in ["weight", "bias"] {
                    for (file, variable) in [("ln_1", "norm1"), ("ln_2", "norm2")] {
                        put(format!("h.{i}.{file}.{part}"), block(&format!("{variable}.{part}")), None, false);
                    }
                    for (file, variable) in [
                        ("attn.c_attn", "attention.qkv"),
                        ("attn.c_proj", "attention.out"),
                        ("mlp.c_fc", "up"),
                        ("mlp.c_proj", "down"),
                    ] {
                        let variable = block(&format!("{variable}.{part}"));
                        put(format!("h.{i}.{file}.{part}"), variable, None, part == "weight");
                    }
                }
            }
            Family::Llama | Family::Qwen2 => {
                for (file, variable) in [("input_layernorm", "norm1"), ("post_attention_layernorm", "norm2")] {
                    put(format!("layers.{i}.{file}.weight"), block(&format!("{variable}.weight")), None, false);
                }
                for (file, variable, rows, bias) in [
                    ("self_attn.q_proj", "attention.qkv", Some((0, q)), c.bias.qkv),
                    ("self_attn.k_proj", "attention.qkv", Some((q, kv)), c.bias.qkv),
                    ("self_attn.v_proj", "attention.qkv", Some((q + kv, kv)), c.bias.qkv),
                    ("self_attn.o_proj", "attention.out", None, c.bias.out),
                    ("mlp.gate_proj", "gate", None, c.bias.perceptron),
                    ("mlp.up_proj", "up", None, c.bias.perceptron),
                    ("mlp.down_proj", "down", None, c.bias.perceptron),
                ] {
                    put(format!("layers.{i}.{file}.weight"), block(&format!("{variable}.weight")), rows, false);
                    if bias {
                        put(format!("layers.{i}.{file}.bias"), block(&format!("{variable}.bias")), rows, false);
                    }
                }
            }
        }
    }
    match family {
        Family::Gpt2 => {
            put("wpe.weight".into(), "positions".into(), None, false);
            put("ln_f.weight".into(), "norm.weight".into(), None, false);
            put("ln_f.bias".into(), "norm.bias".into(), None, false);
        }
        Family::Llama | Family::Qwen2 => put("norm.weight".into(), "norm.weight".into(), None, false),
    }
    if !c.tied {
        put(HEAD.into(), "head".into(), None, false);
    }
    all
}

/// Tensors that old checkpoints hold and that are no weights: causal masks and rotary frequencies.
fn is_buffer(name: &str) -> bool {
    [".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"].iter().any(|end| name.ends_with(end))
}

/// Fills the network's variables from safetensors files, of which `listing` is the one that names them all.
pub(super) fn read(
    family: Family,
    config: &GptConfig,
    variables: &BTreeMap<String, Tensor>,
    files: &[impl AsRef<Path>],
    listing: &Path,
) -> Result<()> {
    let slots: HashMap<String, Slot> = slots(family, config).into_iter().map(|s| (s.file.clone(), s)).collect();
    let embedding = token_embedding(family);
    let mut missing: HashSet<&str> = slots.keys().map(String::as_str).collect();
    for path in files {
        let path = path.as_ref();
        read_tensors(path, |full, t| {
            let mut name = full.strip_prefix(prefix(family)).unwrap_or(full);
            if name == HEAD && config.tied {
                // The same tensor by another name, unless the embedding itself has come.
                if !missing.contains(embedding) {
                    return Ok(());
                }
                name = embedding;
            }
            let Some(slot) = slots.get(name) else {
                if is_buffer(name) {
                    return Ok(());
                }
                return Err(Error::format(path, "only tensors of the network that config.json describes", full));
            };
            let to = slot.view(variables);
            if t.size() != to.size() || !t.is_floating_point() {
                let expected = format!("tensor {full} of floats, shape {:?}", to.size());
                return Err(Error::format(path, expected, format!("{:?}, shape {:?}", t.kind(), t.size())));
            }
            missing.remove(slot.file.as_str());
            tch::no_grad(|| to.shallow_clone().f_copy_(&t))?;
            Ok(())
        })?;
    }
    match missing.iter().min() {
        Some(name) => Err(Error::format(listing, format!("tensor {}", full_name(family, name)), "none of this name")),
        None => Ok(()),
    }
}

fn full_name(family: Family, name: &str) -> String {
    if name == HEAD { name.to_owned() } else { format!("{}{name}", prefix(family)) }
}

/// The checkpoint's tensors, by their full names.
pub(super) fn tensors(
    family: Family,
    config: &GptConfig,
    variables: &BTreeMap<String, Tensor>,
) -> BTreeMap<String, Tensor> {
    let slots = slots(family, config);
    slots.iter().map(|s| (full_name(family, &s.file), s.view(variables).detach())).collect()
}
