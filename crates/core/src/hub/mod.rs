//! Language models in Hugging Face's layout: a folder with `config.json` and `model.safetensors`, whole or in parts.
//!
//! GPT-2, Llama and Qwen2 are read into one network, [`Gpt`], and written back so that Python's `transformers` computes the same
//! logits from the folder.
//!
//! ```
//! use autodidact_core::{hub, nn::{Gpt, GptConfig}};
//! use tch::{Device, Kind, Tensor, nn::VarStore};
//! let vs = VarStore::new(Device::Cpu);
//! let model = Gpt::new(vs.root(), &GptConfig::llama(20, 16, 8, 1, (2, 1), 12)).unwrap();
//! let folder = tempfile::tempdir().unwrap();
//! hub::save(folder.path(), &model, None).unwrap();
//! let (_vs, same) = hub::load(folder.path(), Device::Cpu).unwrap();
//! let tokens = Tensor::from_slice(&[3i64, 1, 4]).view([1, 3]);
//! assert_eq!(same.logits(&tokens, None).unwrap(), model.logits(&tokens, None).unwrap());
//! ```

mod config;
mod weights;

pub(crate) use config::read_object;

use crate::nn::Gpt;
use crate::train::{write_atomically, write_tensors};
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tch::nn::VarStore;
use tch::{Device, Kind};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// What a folder holds beside network and weights; copied when a network that came from it is saved.
const COMPANIONS: [&str; 9] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
];

/// The network of a folder and the store of its weights, in 32-bit floats whatever the file has.
///
/// # Errors
/// One that names the file, and the tensor or field: files that are missing or broken; an architecture, activation or rotary scaling
/// that [`Gpt`] does not have; tensors that are missing, of another shape, or not the network's.
pub fn load(folder: impl AsRef<Path>, device: Device) -> Result<(VarStore, Gpt)> {
    load_as(folder, device, Kind::Float)
}

/// As [`load`], with the weights in another floating-point type.
///
/// # Errors
/// As [`load`], and a `kind` that is no floating-point type.
pub fn load_as(folder: impl AsRef<Path>, device: Device, kind: Kind) -> Result<(VarStore, Gpt)> {
    let folder = folder.as_ref();
    if !matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16) {
        return Err(Error::value("type of the weights", "a floating-point type", format!("{kind:?}")));
    }
    let path = folder.join(CONFIG);
    let (family, config) = config::parse(&path, &config::read_object(&path)?)?;
    let (files, listing) = files(folder)?;
    let mut vs = VarStore::new(device);
    vs.set_kind(kind);
    let model = Gpt::blank(vs.root(), &config)?;
    weights::read(family, &config, &model.parameters(), &files, &listing)?;
    Ok((vs, model))
}

/// The safetensors files of a folder, and the file that lists their tensors.
fn files(folder: &Path) -> Result<(Vec<PathBuf>, PathBuf)> {
    let whole = folder.join(WEIGHTS);
    let index = folder.join(INDEX);
    if whole.exists() || !index.exists() {
        return Ok((vec![whole.clone()], whole));
    }
    let object = config::read_object(&index)?;
    let bad = |found: String| Error::format(&index, "a weight_map from tensors to files of the folder", found);
    let map = object.get("weight_map").and_then(Value::as_object).ok_or_else(|| bad("none".into()))?;
    let mut names = BTreeSet::new();
    for value in map.values() {
        let plain = |name: &&str| Path::new(name).file_name().is_some_and(|file| file == *name);
        names.insert(value.as_str().filter(plain).ok_or_else(|| bad(value.to_string()))?);
    }
    Ok((names.into_iter().map(|name| folder.join(name)).collect(), index))
}

/// Writes `config.json` and `model.safetensors` of a network into a folder, in the type of its weights. With the folder that the network
/// came from, its tokenizer files and the other fields of its `config.json` are taken along.
///
/// # Errors
/// A network that is no GPT-2, Llama or Qwen2, one with adapters (merge them first), and what the system says.
pub fn save(folder: impl AsRef<Path>, model: &Gpt, from: Option<&Path>) -> Result<()> {
    let folder = folder.as_ref();
    if model.is_adapted() {
        return Err(Error::value("network", "one without adapters (merge or remove them)", "an adapted one"));
    }
    let family = config::family(model.config())?;
    let variables = model.parameters();
    let mut fields = match from {
        Some(from) => config::read_object(&from.join(CONFIG))?,
        None => Map::new(),
    };
    // Other spellings of what is described below.
    for key in ["rope_parameters", "dtype"] {
        fields.remove(key);
    }
    fields.extend(config::describe(model.config())?);
    let dtype = match variables["tokens.weight"].kind() {
        Kind::Half => "float16",
        Kind::BFloat16 => "bfloat16",
        Kind::Double => "float64",
        _ => "float32",
    };
    fields.insert("torch_dtype".into(), dtype.into());
    let tensors = weights::tensors(family, model.config(), &variables);
    let header = [("format".to_owned(), "pt".to_owned())].into();
    write_tensors(&folder.join(WEIGHTS), &tensors, header)?;
    for (from, name) in from.into_iter().flat_map(|from| COMPANIONS.map(|name| (from.join(name), name))) {
        if from.exists() {
            write_atomically(&folder.join(name), &std::fs::read(&from).map_err(|e| Error::io(&from, e))?)?;
        }
    }
    let text = serde_json::to_string_pretty(&fields).expect("a map of JSON values");
    write_atomically(&folder.join(CONFIG), format!("{text}\n").as_bytes())
}

/// The tokens that end a text: `eos_token_id` of `generation_config.json`, else of `config.json`; none if neither says.
///
/// # Errors
/// Files that are not JSON, or an entry that is no token index.
pub fn stop_tokens(folder: impl AsRef<Path>) -> Result<Vec<i64>> {
    for name in ["generation_config.json", CONFIG] {
        let path = folder.as_ref().join(name);
        if !path.exists() {
            continue;
        }
        let fields = config::read_object(&path)?;
        let bad = |v: &Value| Error::format(&path, "token indices as eos_token_id", v.to_string());
        match fields.get("eos_token_id") {
            None | Some(Value::Null) => {}
            Some(Value::Array(all)) => return all.iter().map(|v| v.as_i64().ok_or_else(|| bad(v))).collect(),
            Some(one) => return Ok(vec![one.as_i64().ok_or_else(|| bad(one))?]),
        }
    }
    Ok(vec![])
}
