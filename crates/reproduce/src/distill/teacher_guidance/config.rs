//! Hyper-parameters: their values by scale, and what `--set` may make of them.

use crate::experiment::{Plan, Scale, check_list};
use anyhow::{Result, bail};
use autodidact_core::Error;
use autodidact_core::error::check_range;
use serde::{Deserialize, Serialize};

/// Images in UCI digits.
const DIGITS: usize = 1797;
/// Training images of CIFAR-10.
const CIFAR10: usize = 50_000;
/// Fewest test images that a split of the digits may leave.
const FEWEST_TEST: usize = 100;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Config {
    /// Grid of the ground truth's weight in kernel regression.
    pub alphas: Vec<f64>,
    pub lambdas: Vec<f64>,
    pub gamma: f64,
    /// Steps of the kernel chains.
    pub steps: usize,
    /// Share of the digits' training labels replaced by other ones.
    pub noise: f64,
    pub krr_train: usize,
    /// Digits that choose weights.
    pub validation: usize,
    /// Grid of the ground truth's weight in networks on digits.
    pub mlp_alphas: Vec<f64>,
    pub mlp_train: usize,
    pub mlp_steps: usize,
    pub hidden: Vec<i64>,
    pub epochs: usize,
    pub batch: usize,
    pub lr: f64,
    pub penalty: f64,
    /// The networks' part on CIFAR-10.
    pub cifar10: Setting,
}

/// Data, network and training of the networks' part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Setting {
    pub network: Architecture,
    /// Hidden widths of the perceptron, widths of the ConvNet's blocks, or the width of ResNet's first stage.
    pub widths: Vec<i64>,
    /// Images are average-pooled to this side.
    pub side: i64,
    /// Random crops (after padding by an eighth of the side) and flips.
    pub augment: bool,
    pub train: usize,
    pub validation: usize,
    /// Test images (at most).
    pub test: usize,
    /// Share of the training labels replaced by other ones.
    pub noise: f64,
    /// Grid of the ground truth's weight.
    pub alphas: Vec<f64>,
    /// Networks in a chain.
    pub steps: usize,
    pub epochs: usize,
    pub batch: usize,
    /// Adam's learning rate.
    pub lr: f64,
    /// Factor of the parameters' norms.
    pub penalty: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Architecture {
    Mlp,
    /// 3x3 convolutions (all but the first with stride 2) and a linear layer.
    ConvNet,
    /// ResNet-18 with the CIFAR stem.
    ResNet18,
}

impl Architecture {
    /// First part of the arms' names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mlp => "mlp",
            Self::ConvNet => "convnet",
            Self::ResNet18 => "resnet18",
        }
    }
}

impl Config {
    pub fn at(scale: Scale) -> Self {
        let small = Self {
            alphas: vec![0.0, 0.1, 0.25, 0.5, 0.75, 1.0],
            lambdas: vec![1e-3, 1e-2, 1e-1],
            gamma: 0.05,
            steps: 20,
            noise: 0.2,
            krr_train: 400,
            validation: 400,
            mlp_alphas: vec![0.0, 0.25, 0.5, 0.75, 1.0],
            mlp_train: 800,
            mlp_steps: 5,
            hidden: vec![256, 256],
            epochs: 60,
            batch: 32,
            lr: 1e-3,
            penalty: 1e-4,
            cifar10: Setting {
                network: Architecture::ConvNet,
                widths: vec![16, 32, 64],
                side: 16,
                augment: true,
                train: 5000,
                validation: 2000,
                test: 10_000,
                noise: 0.0,
                alphas: vec![0.0, 0.25, 0.5, 0.75, 1.0],
                steps: 5,
                epochs: 10,
                batch: 128,
                lr: 1e-3,
                penalty: 1e-4,
            },
        };
        let tenths: Vec<f64> = (0..=10).map(|a| f64::from(a) / 10.0).collect();
        match scale {
            Scale::Smoke => Self {
                alphas: vec![0.0, 0.5],
                lambdas: vec![1e-1],
                krr_train: 100,
                validation: 100,
                mlp_alphas: vec![0.0, 0.5],
                mlp_train: 300,
                mlp_steps: 2,
                hidden: vec![32],
                epochs: 5,
                cifar10: Setting {
                    widths: vec![8, 16, 16],
                    train: 256,
                    validation: 100,
                    test: 200,
                    alphas: vec![0.0, 0.5],
                    steps: 2,
                    epochs: 2,
                    batch: 64,
                    ..small.cifar10
                },
                ..small
            },
            Scale::Small => small,
            Scale::Full => Self {
                mlp_alphas: tenths.clone(),
                cifar10: Setting {
                    network: Architecture::ResNet18,
                    widths: vec![64],
                    side: 32,
                    train: 45_000,
                    validation: 5000,
                    alphas: tenths,
                    epochs: 75,
                    ..small.cifar10
                },
                ..small
            },
        }
    }

    /// The networks' part on digits.
    fn digits(&self) -> Setting {
        Setting {
            network: Architecture::Mlp,
            widths: self.hidden.clone(),
            side: 8,
            augment: false,
            train: self.mlp_train,
            validation: self.validation,
            test: DIGITS,
            noise: self.noise,
            alphas: self.mlp_alphas.clone(),
            steps: self.mlp_steps,
            epochs: self.epochs,
            batch: self.batch,
            lr: self.lr,
            penalty: self.penalty,
        }
    }

    /// The networks' part on a data set.
    pub fn networks(&self, dataset: &str) -> Setting {
        if dataset == "cifar10" { self.cifar10.clone() } else { self.digits() }
    }

    /// Checks every value, so that a bad one is an error before anything is computed.
    pub fn check(&self, plan: &Plan) -> Result<()> {
        check_alphas("alphas", &self.alphas)?;
        if !self.alphas.contains(&0.5) {
            return Err(Error::value("alphas", "0 and 0.5 among them", format!("{:?}", self.alphas)).into());
        }
        check_list("lambdas", &self.lambdas, f64::MIN_POSITIVE..)?;
        check_distinct("lambdas", &self.lambdas)?;
        check_range("gamma", self.gamma, f64::MIN_POSITIVE..)?;
        check_count("steps", self.steps, 2, usize::MAX)?;
        let most = DIGITS - FEWEST_TEST;
        check_count("validation", self.validation, 1, most - 1)?;
        check_count("krr_train", self.krr_train, 2, most - self.validation)?;
        self.digits().check(&["mlp_alphas", "mlp_train", "mlp_steps", "hidden", ""], DIGITS - FEWEST_TEST)?;
        let c = &self.cifar10;
        check_count("cifar10.test", c.test, 1, 10_000)?;
        check_count("cifar10.validation", c.validation, 1, CIFAR10 - 1)?;
        if ![32, 16, 8].contains(&c.side) {
            return Err(Error::value("cifar10.side", "32, 16 or 8", c.side).into());
        }
        let names = ["cifar10.alphas", "cifar10.train", "cifar10.steps", "cifar10.widths", "cifar10."];
        c.check(&names, CIFAR10)?;
        self.check_used(plan)
    }

    /// A changed setting of the networks that are not run would be without effect.
    fn check_used(&self, plan: &Plan) -> Result<()> {
        let defaults = Self { noise: self.noise, validation: self.validation, ..Self::at(plan.scale) };
        match plan.dataset.as_str() {
            "cifar10" if self.digits() != defaults.digits() => {
                bail!("on cifar10 the networks' settings are those that begin with cifar10, such as cifar10.epochs")
            }
            "digits" if self.cifar10 != defaults.cifar10 => {
                bail!("settings that begin with cifar10 go with --dataset cifar10")
            }
            _ => Ok(()),
        }
    }
}

impl Setting {
    /// Checks the values; `names` are those of alphas, train, steps and widths, and what stands before the others.
    fn check(&self, [alphas, train, steps, widths, before]: &[&str; 5], images: usize) -> Result<()> {
        let name = |field: &str| format!("{before}{field}");
        check_alphas(alphas, &self.alphas)?;
        if !self.alphas.iter().any(|a| *a > 0.0 && *a < 1.0) {
            return Err(Error::value(*alphas, "a value inside (0, 1) among them", format!("{:?}", self.alphas)).into());
        }
        check_range(&name("noise"), self.noise, 0.0..=1.0)?;
        check_count(train, self.train, 2, images - self.validation)?;
        check_count(steps, self.steps, 2, usize::MAX)?;
        if self.widths.is_empty() || self.widths.iter().any(|w| *w < 1) {
            return Err(Error::value(*widths, "one or more positive widths", format!("{:?}", self.widths)).into());
        }
        check_count(&name("epochs"), self.epochs, 1, usize::MAX)?;
        check_count(&name("batch"), self.batch, 1, self.train)?;
        check_range(&name("lr"), self.lr, f64::MIN_POSITIVE..)?;
        Ok(check_range(&name("penalty"), self.penalty, 0.0..)?)
    }
}

fn check_count(what: &str, value: usize, least: usize, most: usize) -> Result<()> {
    let range = if most == usize::MAX { format!("at least {least}") } else { format!("{least} to {most}") };
    if (least..=most).contains(&value) { Ok(()) } else { Err(Error::value(what, range, value).into()) }
}

/// Every value makes an arm (or a series) of its own.
fn check_distinct(what: &str, values: &[f64]) -> Result<()> {
    let twice = values.iter().enumerate().find(|(i, v)| values[..*i].contains(v));
    twice.map_or(Ok(()), |(_, v)| Err(Error::value(what, "distinct values", format!("{v} twice")).into()))
}

/// Weights of the ground truth; the criteria need 0.
fn check_alphas(what: &str, alphas: &[f64]) -> Result<()> {
    check_list(what, alphas, 0.0..=1.0)?;
    check_distinct(what, alphas)?;
    if alphas.contains(&0.0) { Ok(()) } else { Err(Error::value(what, "0 among them", format!("{alphas:?}")).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn refusal(dataset: &str, key: &str, value: Value) -> Option<String> {
        let mut config = json!(Config::at(Scale::Small));
        *config.pointer_mut(&format!("/{}", key.replace('.', "/"))).expect(key) = value;
        let plan = Plan::trial(Scale::Small, dataset, config);
        plan.config::<Config>().unwrap().check(&plan).err().map(|e| e.to_string())
    }

    #[test]
    fn the_defaults_are_accepted_and_bad_values_are_not() {
        for scale in [Scale::Smoke, Scale::Small, Scale::Full] {
            let value = json!(Config::at(scale));
            assert_eq!(json!(serde_json::from_value::<Config>(value.clone()).unwrap()), value);
        }
        for (key, value, want) in [
            ("alphas", json!([0.0, 0.5, 1.5]), "alphas: expected a finite number in 0.0..=1.0, got 1.5"),
            ("alphas", json!([0.5]), "alphas: expected 0 among them, got [0.5]"),
            ("alphas", json!([0.0, 0.25]), "alphas: expected 0 and 0.5 among them, got [0.0, 0.25]"),
            ("alphas", json!([0.0, 0.5, 0.5]), "alphas: expected distinct values, got 0.5 twice"),
            ("alphas", json!([]), "alphas: expected at least one value, got none"),
            ("lambdas", json!([]), "lambdas: expected at least one value, got none"),
            ("lambdas", json!([0.1, 0.1]), "lambdas: expected distinct values, got 0.1 twice"),
            ("noise", json!(2.0), "noise: expected a finite number in 0.0..=1.0, got 2"),
            ("steps", json!(1), "steps: expected at least 2, got 1"),
            ("validation", json!(0), "validation: expected 1 to 1696, got 0"),
            ("validation", json!(1700), "validation: expected 1 to 1696, got 1700"),
            ("krr_train", json!(1298), "krr_train: expected 2 to 1297, got 1298"),
            ("mlp_train", json!(1298), "mlp_train: expected 2 to 1297, got 1298"),
            ("mlp_alphas", json!([0.5]), "mlp_alphas: expected 0 among them, got [0.5]"),
            ("mlp_alphas", json!([0.0, 1.0]), "mlp_alphas: expected a value inside (0, 1) among them, got [0.0, 1.0]"),
            ("mlp_steps", json!(1), "mlp_steps: expected at least 2, got 1"),
            ("hidden", json!([]), "hidden: expected one or more positive widths, got []"),
            ("hidden", json!([32, 0]), "hidden: expected one or more positive widths, got [32, 0]"),
            ("epochs", json!(0), "epochs: expected at least 1, got 0"),
            ("batch", json!(0), "batch: expected 1 to 800, got 0"),
            ("batch", json!(801), "batch: expected 1 to 800, got 801"),
            ("cifar10.train", json!(48_001), "cifar10.train: expected 2 to 48000, got 48001"),
            ("cifar10.side", json!(20), "cifar10.side: expected 32, 16 or 8, got 20"),
            ("cifar10.test", json!(0), "cifar10.test: expected 1 to 10000, got 0"),
            ("cifar10.epochs", json!(3), "settings that begin with cifar10 go with --dataset cifar10"),
        ] {
            assert_eq!(refusal("digits", key, value).as_deref(), Some(want), "{key}");
        }
        for (key, value) in
            [("lambdas", json!([0.0])), ("gamma", json!(0.0)), ("lr", json!(0.0)), ("penalty", json!(-1.0))]
        {
            let said = refusal("digits", key, value).expect(key);
            assert!(said.starts_with(&format!("{key}: expected a finite number")), "{said}");
        }
    }

    #[test]
    fn settings_without_effect_are_refused() {
        let said = refusal("cifar10", "epochs", json!(3)).unwrap();
        assert!(said.contains("cifar10.epochs"), "{said}");
        for (key, value) in [("cifar10.epochs", json!(3)), ("noise", json!(0.1)), ("validation", json!(300))] {
            assert_eq!(refusal("cifar10", key, value), None, "{key}");
        }
        assert_eq!(refusal("digits", "epochs", json!(3)), None);
    }
}
