//! Hyper-parameters changed by `--set`.

use super::find;
use anyhow::{Result, bail};
use serde_json::Value;

/// Keys of the hyper-parameters, `outer.inner` where they are nested.
fn keys(config: &Value, prefix: &str) -> Vec<String> {
    let Some(object) = config.as_object() else { return vec![prefix.to_owned()] };
    let dot = if prefix.is_empty() { "" } else { "." };
    object.iter().flat_map(|(name, value)| keys(value, &format!("{prefix}{dot}{name}"))).collect()
}

/// A new value in place of `old`, of the same type; a fraction may be written without its point.
fn like(old: &Value, new: Value) -> Option<Value> {
    match (old, &new) {
        (Value::Number(o), Value::Number(n)) if o.is_f64() => n.as_f64().map(Value::from),
        (Value::Number(o), Value::Number(n)) => (!n.is_f64() && (n.is_u64() || !o.is_u64())).then_some(new),
        (Value::Null, _) => Some(new),
        _ => (std::mem::discriminant(old) == std::mem::discriminant(&new)).then_some(new),
    }
}

/// The defaults with `--set` applied; nested keys are written `outer.inner`.
pub(super) fn configured(mut config: Value, set: &[String]) -> Result<Value> {
    for assignment in set {
        let Some((key, value)) = assignment.split_once('=') else { bail!("--set expects KEY=VALUE, got {assignment}") };
        let keys = keys(&config, "");
        let nested: Vec<&str> = keys.iter().map(String::as_str).filter(|k| k.ends_with(&format!(".{key}"))).collect();
        if !nested.is_empty() && !keys.contains(&key.to_owned()) {
            bail!("there is no hyper-parameter {key}; did you mean {}?", nested.join(" or "));
        }
        find("hyper-parameter", key, keys.iter().map(|k| (k.as_str(), ())))?;
        let at = config.pointer_mut(&format!("/{}", key.replace('.', "/"))).expect("it was just found");
        let new: Value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        match like(at, new) {
            Some(new) => *at = new,
            None => bail!("--set {key}: expected a value like {at}, got {value}"),
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_change_known_keys_to_values_of_their_type() {
        let config = json!({ "lr": 0.1, "main": { "steps": 10 } });
        let set = |s: &str| configured(config.clone(), &[s.to_owned()]);
        assert_eq!(set("main.steps=20").unwrap()["main"]["steps"], 20);
        assert!(set("lrr=1").unwrap_err().to_string().contains("did you mean lr?"));
        assert!(set("steps=1").unwrap_err().to_string().contains("did you mean main.steps?"));
        assert!(set("lr=fast").unwrap_err().to_string().contains("expected a value like 0.1"));
        assert_eq!(set("lr=1").unwrap()["lr"], 1.0);
        for bad in ["main.steps=1.5", "main.steps=-1"] {
            assert!(set(bad).unwrap_err().to_string().contains("expected a value like 10"), "{bad}");
        }
        assert!(set("lr").unwrap_err().to_string().contains("KEY=VALUE"));
    }
}
