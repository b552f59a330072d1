//! Folders of language models: transformers' logits and continuations, saving, what is wrong with a broken folder.

use autodidact_core::hub;
use autodidact_core::nn::{Bias, Gpt, GptConfig, LoraConfig, Position, RotaryScaling, TransformerNorm};
use autodidact_core::testing::{assert_close, fixture};
use autodidact_core::text::{Sampler, SamplerConfig};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const NAMES: [&str; 6] = ["gpt2", "gpt2_untied", "llama", "llama_yarn", "llama_linear", "qwen2"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/language_models").join(name)
}

fn golden(name: &str) -> BTreeMap<String, Tensor> {
    fixture(folder(name).join("golden.safetensors"))
}

fn load(name: &str) -> (VarStore, Gpt) {
    hub::load(folder(name), Device::Cpu).unwrap()
}

/// A copy of a folder's files, to be damaged.
fn copy(name: &str) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in fs::read_dir(folder(name)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

/// Replaces text in a file of a folder.
fn edit(folder: &Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has {from}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn rewrite(path: &Path, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) {
    let mut tensors = fixture(path);
    change(&mut tensors);
    let tensors: Vec<_> = tensors.into_iter().collect();
    Tensor::write_safetensors(&tensors, path).unwrap();
}

fn error(folder: &Path) -> String {
    hub::load(folder, Device::Cpu).unwrap_err().to_string()
}

#[test]
fn logits_are_those_of_transformers() {
    for name in NAMES {
        let (_vs, model) = load(name);
        let g = golden(name);
        assert_close(name, &model.logits(&g["tokens"], None).unwrap(), &g["logits"], 1e-5);
        // Token by token through the cache, too.
        let mut cache = model.cache(3, Device::Cpu);
        let parts: Vec<_> = (0..g["tokens"].size()[1])
            .map(|i| model.logits(&g["tokens"].narrow(1, i, 1), Some(&mut cache)).unwrap())
            .collect();
        assert_close(name, &Tensor::cat(&parts, 1), &g["logits"], 1e-5);
    }
}

#[test]
fn greedy_continuations_of_padded_prompts_are_those_of_transformers() {
    for name in NAMES {
        let (_vs, model) = load(name);
        let g = golden(name);
        let config = SamplerConfig { max_new: 10, temperature: 0.0, ..SamplerConfig::default() };
        let sampler = Sampler::new(&model, config).unwrap();
        assert_eq!(sampler.sample_padded(&g["prompts"], &g["mask"]).unwrap(), g["continuation"], "{name}");
    }
}

#[test]
fn configurations_are_read_as_they_are_meant() {
    let config = |name| *load(name).1.config();
    let c = config("llama");
    assert_eq!((c.heads, c.kv_heads, c.head_width, c.hidden, c.context), (4, 2, Some(8), 28, 64));
    assert_eq!((c.norm, c.norm_eps, c.bias, c.tied), (TransformerNorm::Rms, 1e-5, Bias::NONE, false));
    let Position::Rotary(rotary) = c.position else { panic!("rotary") };
    let scaling = RotaryScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 16 };
    assert_eq!((rotary.base, rotary.scaling), (100.0, scaling));
    let c = config("qwen2");
    assert_eq!((c.bias, c.tied, c.norm_eps), (Bias::QKV, true, 1e-6));
    let c = config("gpt2_untied");
    assert_eq!((c.hidden, c.tied, c.norm_eps, c.bias), (24, false, 1e-3, Bias::ALL));
}

#[test]
fn a_saved_network_is_loaded_bit_for_bit() {
    for name in NAMES {
        let (_vs, model) = load(name);
        let to = tempfile::tempdir().unwrap();
        hub::save(to.path(), &model, Some(&folder(name))).unwrap();
        let (_vs, back) = hub::load(to.path(), Device::Cpu).unwrap();
        assert_eq!(back.parameters(), model.parameters(), "{name}");
        let tokens = &golden(name)["tokens"];
        assert_eq!(back.logits(tokens, None).unwrap(), model.logits(tokens, None).unwrap(), "{name}");
    }
}

#[test]
fn weights_come_in_the_type_asked_for_and_stay_in_it() {
    let (vs, model) = hub::load_as(folder("qwen2"), Device::Cpu, Kind::BFloat16).unwrap();
    assert!(vs.variables().values().all(|t| t.kind() == Kind::BFloat16));
    let g = golden("qwen2");
    let logits = model.logits(&g["tokens"], None).unwrap();
    assert_eq!(logits.kind(), Kind::BFloat16);
    assert_close("bf16", &logits, &g["logits"], 0.1);
    let to = tempfile::tempdir().unwrap();
    hub::save(to.path(), &model, None).unwrap();
    let saved = fixture(to.path().join("model.safetensors"));
    let original = fixture(folder("qwen2").join("model.safetensors"));
    // The very tensors that were read, but for those that are the same by another name.
    for (name, t) in &saved {
        assert_eq!(*t, original[name], "{name}");
    }
    assert!(original.keys().all(|name| name == "lm_head.weight" || saved.contains_key(name)));
    assert!(hub::load_as(folder("qwen2"), Device::Cpu, Kind::Int).is_err());
}

#[test]
fn other_fields_and_tokenizers_go_with_a_network_that_is_saved_again() {
    let from = copy("gpt2");
    edit(from.path(), "config.json", "\"bos_token_id\": 0", "\"bos_token_id\": 7");
    fs::write(from.path().join("generation_config.json"), r#"{"eos_token_id": [3, 5]}"#).unwrap();
    fs::write(from.path().join("tokenizer.json"), "{}").unwrap();
    let (_vs, model) = hub::load(from.path(), Device::Cpu).unwrap();
    let to = tempfile::tempdir().unwrap();
    hub::save(to.path(), &model, Some(from.path())).unwrap();
    assert!(fs::read_to_string(to.path().join("config.json")).unwrap().contains("\"bos_token_id\": 7"));
    assert!(to.path().join("tokenizer.json").exists());
    assert_eq!(hub::stop_tokens(to.path()).unwrap(), [3, 5]);
    assert_eq!(hub::stop_tokens(folder("gpt2")).unwrap(), [0i64; 0]);
}

#[test]
fn merged_adapters_are_saved_and_live_ones_refused() {
    tch::manual_seed(5);
    let (_vs, mut model) = load("qwen2");
    let adapters = VarStore::new(Device::Cpu);
    model.adapt(&adapters.root(), &LoraConfig { rank: 2, ..LoraConfig::default() }).unwrap();
    tch::no_grad(|| adapters.trainable_variables().iter_mut().for_each(|t| drop(t.normal_(0.0, 0.3))));
    let to = tempfile::tempdir().unwrap();
    assert!(hub::save(to.path(), &model, None).unwrap_err().to_string().contains("without adapters"));
    let tokens = &golden("qwen2")["tokens"];
    let adapted = model.logits(tokens, None).unwrap();
    model.merge_adapters();
    hub::save(to.path(), &model, None).unwrap();
    let (_vs, back) = hub::load(to.path(), Device::Cpu).unwrap();
    assert_close("merged", &back.logits(tokens, None).unwrap(), &adapted, 1e-5);
}

#[test]
fn old_buffers_and_a_second_name_of_tied_weights_are_passed_over() {
    let damaged = copy("gpt2");
    rewrite(&damaged.path().join("model.safetensors"), |tensors| {
        tensors.insert("transformer.h.0.attn.bias".into(), Tensor::ones([1, 1, 64, 64], (Kind::Bool, Device::Cpu)));
        let embedding = tensors.remove("transformer.wte.weight").unwrap();
        tensors.insert("lm_head.weight".into(), embedding);
    });
    let (_vs, model) = hub::load(damaged.path(), Device::Cpu).unwrap();
    assert_eq!(model.parameters(), load("gpt2").1.parameters());
}

#[test]
fn errors_name_the_file_and_the_tensor() {
    let damaged = copy("gpt2");
    let weights = damaged.path().join("model.safetensors");
    let original = fs::read(&weights).unwrap();
    rewrite(&weights, |t| drop(t.remove("transformer.h.1.ln_2.bias")));
    let e = error(damaged.path());
    assert!(e.contains("model.safetensors: expected tensor transformer.h.1.ln_2.bias"), "{e}");
    rewrite(&weights, |t| drop(t.insert("transformer.h.1.ln_2.bias".into(), Tensor::from(0.0f32))));
    let e = error(damaged.path());
    assert!(e.contains("transformer.h.1.ln_2.bias of floats, shape [16], found Float, shape []"), "{e}");
    fs::write(&weights, &original).unwrap();
    rewrite(&weights, |t| drop(t.insert("transformer.h.2.ln_1.bias".into(), Tensor::from(0.0f32))));
    assert!(error(damaged.path()).contains("found transformer.h.2.ln_1.bias"));
    fs::write(&weights, &original[..original.len() - 1]).unwrap();
    assert!(error(damaged.path()).contains("model.safetensors: expected a whole safetensors file"));
    fs::remove_file(&weights).unwrap();
    assert!(error(damaged.path()).contains("model.safetensors: No such file"));
    edit(damaged.path(), "config.json", "\"n_embd\"", "n_embd");
    assert!(error(damaged.path()).contains("config.json: expected a JSON object"));

    let damaged = copy("llama");
    fs::remove_file(damaged.path().join("model-00002-of-00003.safetensors")).unwrap();
    assert!(error(damaged.path()).contains("model-00002-of-00003.safetensors: No such file"));
    let index = damaged.path().join("model.safetensors.index.json");
    fs::write(&index, r#"{"weight_map": {"lm_head.weight": "../else.safetensors"}}"#).unwrap();
    assert!(error(damaged.path()).contains("index.json: expected a weight_map from tensors to files of the folder"));
    fs::write(&index, r#"{"weight_map": {"lm_head.weight": "model-00001-of-00003.safetensors"}}"#).unwrap();
    assert!(error(damaged.path()).contains("index.json: expected tensor "));

    let config = GptConfig { kv_heads: 2, ..GptConfig::gpt2(10, 8, 16, 1, 4) };
    let odd = Gpt::new(VarStore::new(Device::Cpu).root(), &config).unwrap();
    assert!(hub::save(damaged.path(), &odd, None).unwrap_err().to_string().contains("GPT-2, Llama or Qwen2"));
}
