//! `config.json` of Hugging Face's GPT-2, Llama and Qwen2.

use crate::nn::{
    AttentionPattern, AttentionScores, Bias, GptConfig, Perceptron, Position, Rotary, RotaryScaling, TransformerNorm,
    yarn_attention,
};
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The architectures that a folder may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Gpt2,
    Llama,
    Qwen2,
}

/// Reads a JSON object.
pub(crate) fn read_object(path: &Path) -> Result<Map<String, Value>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    serde_json::from_str(&text).map_err(|e| Error::format(path, "a JSON object", e.to_string()))
}

/// The fields of a JSON object in a file, checked as they are read; absent and `null` are the same.
struct Fields<'a> {
    path: &'a Path,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn optional<T>(&self, key: &str, what: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(value) {
                None => Err(Error::format(self.path, format!("{what} as {key}"), value.to_string())),
                some => Ok(some),
            },
        }
    }

    fn integer(&self, key: &str) -> Result<Option<i64>> {
        self.optional(key, "an integer", Value::as_i64)
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        self.optional(key, "a number", Value::as_f64)
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.optional(key, "true or false", Value::as_bool)
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.optional(key, "a string", Value::as_str)
    }

    fn object(&self, key: &str) -> Result<Option<Self>> {
        let map = self.optional(key, "an object", Value::as_object)?;
        Ok(map.map(|map| Self { path: self.path, map }))
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| Error::format(self.path, format!("a value of {key}"), "none"))
    }

    fn size(&self, key: &str) -> Result<i64> {
        self.required(key, self.integer(key)?)
    }

    /// Refuses a setting that changes the network into one that is not implemented.
    fn only(&self, key: &str, allowed: bool) -> Result<()> {
        match self.flag(key)? {
            Some(value) if value != allowed => {
                Err(Error::format(self.path, format!("{key} {allowed}"), value.to_string()))
            }
            _ => Ok(()),
        }
    }
}

/// The network that a `config.json` describes.
pub(super) fn parse(path: &Path, map: &Map<String, Value>) -> Result<(Family, GptConfig)> {
    let fields = Fields { path, map };
    if let Some(quantized) = map.get("quantization_config").filter(|q| !q.is_null()) {
        return Err(Error::format(path, "weights that are not quantized", quantized.to_string()));
    }
    let family = match fields.required("model_type", fields.text("model_type")?)? {
        "gpt2" => Family::Gpt2,
        "llama" => Family::Llama,
        "qwen2" => Family::Qwen2,
        other => return Err(Error::format(path, "model_type gpt2, llama or qwen2", other)),
    };
    let config = match family {
        Family::Gpt2 => parse_gpt2(&fields)?,
        Family::Llama | Family::Qwen2 => parse_llama(&fields, family)?,
    };
    config.check().map_err(|e| Error::format(path, "a network that can be built", e.to_string()))?;
    Ok((family, config))
}

fn depth(fields: &Fields, key: &str) -> Result<usize> {
    let depth = fields.size(key)?;
    usize::try_from(depth).map_err(|_| Error::format(fields.path, format!("a positive {key}"), depth.to_string()))
}

fn parse_gpt2(fields: &Fields) -> Result<GptConfig> {
    match fields.text("activation_function")? {
        None | Some("gelu_new" | "gelu_pytorch_tanh") => {}
        Some(other) => return Err(Error::format(fields.path, "activation_function gelu_new", other)),
    }
    fields.only("scale_attn_weights", true)?;
    fields.only("scale_attn_by_inverse_layer_idx", false)?;
    fields.only("add_cross_attention", false)?;
    let [vocab, context, width, heads] = ["vocab_size", "n_positions", "n_embd", "n_head"].map(|key| fields.size(key));
    let base = GptConfig::gpt2(vocab?, context?, width?, depth(fields, "n_layer")?, heads?);
    Ok(GptConfig {
        hidden: fields.integer("n_inner")?.unwrap_or(base.hidden),
        norm_eps: fields.number("layer_norm_epsilon")?.unwrap_or(1e-5),
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(true),
        ..base
    })
}

fn parse_llama(fields: &Fields, family: Family) -> Result<GptConfig> {
    match fields.text("hidden_act")? {
        None | Some("silu" | "swish") => {}
        Some(other) => return Err(Error::format(fields.path, "hidden_act silu", other)),
    }
    fields.only("use_sliding_window", false)?;
    let [vocab, context, width, heads, hidden] =
        ["vocab_size", "max_position_embeddings", "hidden_size", "num_attention_heads", "intermediate_size"]
            .map(|key| fields.size(key));
    let (context, heads) = (context?, heads?);
    let kv_heads = fields.integer("num_key_value_heads")?.unwrap_or(heads);
    let depth = depth(fields, "num_hidden_layers")?;
    let bias = match family {
        Family::Qwen2 => Bias::QKV,
        _ => {
            let attention = fields.flag("attention_bias")?.unwrap_or(false);
            Bias { qkv: attention, out: attention, perceptron: fields.flag("mlp_bias")?.unwrap_or(false) }
        }
    };
    Ok(GptConfig {
        head_width: fields.integer("head_dim")?,
        norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        position: Position::Rotary(parse_rotary(fields, context)?),
        bias,
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        ..GptConfig::llama(vocab?, context, width?, depth, (heads, kv_heads), hidden?)
    })
}

/// Rotary positions: `rope_theta` and `rope_scaling`, or both in `rope_parameters` (transformers 5).
fn parse_rotary(fields: &Fields, context: i64) -> Result<Rotary> {
    let empty = Map::new();
    let scaling = match fields.object("rope_scaling")? {
        None => fields.object("rope_parameters")?,
        some => some,
    };
    let scaling = scaling.unwrap_or(Fields { path: fields.path, map: &empty });
    for place in [fields, &scaling] {
        if let Some(part) = place.number("partial_rotary_factor")?.filter(|&part| part != 1.0) {
            return Err(Error::format(fields.path, "rotary positions in all features", part.to_string()));
        }
    }
    let base = match scaling.number("rope_theta")? {
        None => fields.number("rope_theta")?.unwrap_or(10_000.0),
        Some(base) => base,
    };
    let kind = match scaling.text("rope_type")? {
        None => scaling.text("type")?.unwrap_or("default"),
        Some(kind) => kind,
    };
    let original = || {
        let outer = fields.integer("original_max_position_embeddings")?;
        Ok::<_, Error>(outer.or(scaling.integer("original_max_position_embeddings")?).unwrap_or(context))
    };
    let required = |key| scaling.required(key, scaling.number(key)?);
    let scaling = match kind {
        "default" => RotaryScaling::None,
        "linear" => RotaryScaling::Linear { factor: required("factor")? },
        "llama3" => RotaryScaling::Llama3 {
            factor: required("factor")?,
            low: required("low_freq_factor")?,
            high: required("high_freq_factor")?,
            original: original()?,
        },
        "yarn" => {
            let original = original()?;
            let factor = scaling.number("factor")?.unwrap_or(context as f64 / original as f64);
            // Hugging Face's generalisation of the paper's factor on cosines and sines.
            let scale = |m: f64| (yarn_attention(factor) - 1.0) * m + 1.0;
            let inferred = match (scaling.number("mscale")?, scaling.number("mscale_all_dim")?) {
                (Some(m), Some(all)) if m != 0.0 && all != 0.0 => scale(m) / scale(all),
                _ => scale(1.0),
            };
            RotaryScaling::Yarn {
                factor,
                original,
                fast: scaling.number("beta_fast")?.unwrap_or(32.0),
                slow: scaling.number("beta_slow")?.unwrap_or(1.0),
                attention: scaling.number("attention_factor")?.unwrap_or(inferred),
                truncate: scaling.flag("truncate")?.unwrap_or(true),
            }
        }
        other => return Err(Error::format(fields.path, "rope_type default, linear, llama3 or yarn", other)),
    };
    Ok(Rotary { base, scaling })
}

/// The family of a network.
pub(super) fn family(c: &GptConfig) -> Result<Family> {
    let common = c.scores == AttentionScores::default() && c.pattern == AttentionPattern::Dense;
    let llama = common
        && c.norm == TransformerNorm::Rms
        && c.perceptron == Perceptron::SwiGlu
        && c.position != Position::Learned;
    let gpt2 = common
        && c.norm == TransformerNorm::Layer
        && c.perceptron == Perceptron::Gelu
        && c.position == Position::Learned
        && c.bias == Bias::ALL
        && c.kv_heads == c.heads
        && c.head_width.is_none_or(|head| head * c.heads == c.width);
    match c.bias {
        _ if gpt2 => Ok(Family::Gpt2),
        Bias::QKV if llama => Ok(Family::Qwen2),
        Bias { qkv, out, .. } if llama && qkv == out => Ok(Family::Llama),
        _ => Err(Error::value("network", "the shape of GPT-2, Llama or Qwen2", format!("{c:?}"))),
    }
}

/// The fields of `config.json` that describe a network.
pub(super) fn describe(c: &GptConfig) -> Result<Map<String, Value>> {
    let fields = match family(c)? {
        Family::Gpt2 => json!({
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "vocab_size": c.vocab,
            "n_positions": c.context,
            "n_embd": c.width,
            "n_layer": c.depth,
            "n_head": c.heads,
            "n_inner": c.hidden,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": c.norm_eps,
            "tie_word_embeddings": c.tied,
        }),
        family => {
            let (name, architecture) = match family {
                Family::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
                _ => ("llama", "LlamaForCausalLM"),
            };
            let mut fields = json!({
                "model_type": name,
                "architectures": [architecture],
                "vocab_size": c.vocab,
                "max_position_embeddings": c.context,
                "hidden_size": c.width,
                "num_hidden_layers": c.depth,
                "num_attention_heads": c.heads,
                "num_key_value_heads": c.kv_heads,
                "head_dim": c.attention().head(),
                "intermediate_size": c.hidden,
                "hidden_act": "silu",
                "rms_norm_eps": c.norm_eps,
                "tie_word_embeddings": c.tied,
            });
            if family == Family::Llama {
                fields["attention_bias"] = c.bias.qkv.into();
                fields["mlp_bias"] = c.bias.perceptron.into();
            }
            if let Position::Rotary(rotary) = c.position {
                fields["rope_theta"] = rotary.base.into();
                fields["rope_scaling"] = describe_scaling(rotary.scaling);
            }
            fields
        }
    };
    match fields {
        Value::Object(map) => Ok(map),
        _ => unreachable!("written as an object above"),
    }
}

fn describe_scaling(scaling: RotaryScaling) -> Value {
    match scaling {
        RotaryScaling::None => Value::Null,
        RotaryScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        RotaryScaling::Llama3 { factor, low, high, original } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": original,
        }),
        RotaryScaling::Yarn { factor, original, fast, slow, attention, truncate } => json!({
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original,
            "beta_fast": fast,
            "beta_slow": slow,
            "attention_factor": attention,
            "truncate": truncate,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: Value) -> Result<GptConfig> {
        let Value::Object(map) = fields else { panic!("an object") };
        parse(Path::new("config.json"), &map).map(|(_, config)| config)
    }

    fn llama(extra: Value) -> Value {
        let mut fields = json!({
            "model_type": "llama", "vocab_size": 10, "max_position_embeddings": 16, "hidden_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 12,
        });
        fields.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        fields
    }

    #[test]
    fn what_is_described_is_read_back() {
        let qwen2 = GptConfig::qwen2(10, 16, 8, 2, (4, 2), 12);
        let base = GptConfig { head_width: Some(4), ..GptConfig::llama(10, 16, 8, 2, (4, 2), 12) };
        let scaled = |scaling| GptConfig { position: Position::Rotary(Rotary { base: 5e5, scaling }), ..base };
        let yarn = |attention| RotaryScaling::Yarn {
            factor: 4.0,
            original: 8,
            fast: 20.0,
            slow: 2.0,
            attention,
            truncate: false,
        };
        for config in [
            GptConfig { hidden: 20, norm_eps: 1e-3, tied: false, ..GptConfig::gpt2(10, 16, 8, 2, 2) },
            GptConfig { head_width: Some(2), ..qwen2 },
            GptConfig { bias: Bias::ALL, tied: true, ..base },
            GptConfig { bias: Bias { perceptron: true, ..Bias::NONE }, ..base },
            scaled(RotaryScaling::Linear { factor: 2.5 }),
            scaled(RotaryScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8 }),
            scaled(yarn(1.25)),
        ] {
            assert_eq!(read(Value::Object(describe(&config).unwrap())).unwrap(), config);
        }
        let odd = GptConfig { norm: TransformerNorm::Rms, ..GptConfig::gpt2(10, 16, 8, 2, 2) };
        assert!(describe(&odd).unwrap_err().to_string().contains("GPT-2, Llama or Qwen2"));
    }

    #[test]
    fn rotary_settings_of_both_layouts_are_the_same() {
        let old = json!({"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 4}});
        let new = json!({"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}});
        let want = Position::Rotary(Rotary { base: 500.0, scaling: RotaryScaling::Linear { factor: 4.0 } });
        for extra in [old, new] {
            assert_eq!(read(llama(extra)).unwrap().position, want);
        }
        let yarn = json!({"rope_scaling": {"type": "yarn", "factor": 2.0, "mscale": 2.0, "mscale_all_dim": 1.0}});
        let Position::Rotary(Rotary { scaling: RotaryScaling::Yarn { attention, original, .. }, .. }) =
            read(llama(yarn)).unwrap().position
        else {
            panic!("yarn")
        };
        let ln2 = 2f64.ln();
        assert!((attention - (0.2 * ln2 + 1.0) / (0.1 * ln2 + 1.0)).abs() < 1e-12);
        assert_eq!(original, 16);
    }

    #[test]
    fn what_is_not_implemented_is_refused_by_name() {
        let error = |fields| read(fields).unwrap_err().to_string();
        for (extra, message) in [
            (json!({"model_type": "mamba"}), "config.json: expected model_type gpt2, llama or qwen2, found mamba"),
            (json!({"hidden_act": "relu"}), "config.json: expected hidden_act silu, found relu"),
            (json!({"vocab_size": "ten"}), "config.json: expected an integer as vocab_size, found \"ten\""),
            (json!({"vocab_size": null}), "config.json: expected a value of vocab_size, found none"),
            (json!({"use_sliding_window": true}), "config.json: expected use_sliding_window false, found true"),
            (
                json!({"rope_scaling": {"rope_type": "longrope"}}),
                "config.json: expected rope_type default, linear, llama3 or yarn, found longrope",
            ),
            (json!({"rope_scaling": {"rope_type": "linear"}}), "config.json: expected a value of factor, found none"),
        ] {
            assert_eq!(error(llama(extra)), message);
        }
        assert!(
            error(llama(json!({"num_attention_heads": 3}))).contains("attention heads: expected a divisor of width 8")
        );
        assert!(error(llama(json!({"quantization_config": {"bits": 4}}))).contains("not quantized"));
        let gpt2 = json!({"model_type": "gpt2", "activation_function": "relu"});
        assert!(error(gpt2).contains("activation_function gelu_new, found relu"));
    }
}
