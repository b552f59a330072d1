//! Adapters in a language model.

use super::Gpt;
use crate::Result;
use crate::error::Error;
use crate::nn::lora::{LoraConfig, LoraTarget, Projection};
use tch::nn::Path;

impl Gpt {
    /// Freezes the weights and adds low-rank adapters, whose parameters are made under `p` as `blocks.{i}.{layer}.a` and `.b`. Give them a
    /// store of their own: what it trains and saves is the adapters alone. The network's outputs do not change.
    ///
    /// ```
    /// use autodidact_core::nn::{Gpt, GptConfig, LoraConfig, LoraTarget, parameter_count};
    /// use tch::{Device, nn::VarStore};
    /// let (base, adapters) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
    /// let mut model = Gpt::new(base.root(), &GptConfig::gpt2(10, 8, 16, 2, 2)).unwrap();
    /// let config = LoraConfig { rank: 3, targets: vec![LoraTarget::Qkv, LoraTarget::Up], ..LoraConfig::default() };
    /// model.adapt(&adapters.root(), &config).unwrap();
    /// // Two blocks of 3 (16 + 48) and 3 (16 + 64).
    /// assert_eq!(parameter_count(&adapters), 2 * (3 * 64 + 3 * 80));
    /// ```
    ///
    /// # Errors
    /// A rank or scale that is not positive, a dropout outside `0..1`, no targets or one that the network does not have, adapters that are
    /// already there.
    pub fn adapt(&mut self, p: &Path, config: &LoraConfig) -> Result<()> {
        config.check()?;
        if self.is_adapted() {
            return Err(Error::value("network", "one without adapters (merge or remove them)", "an adapted one"));
        }
        if config.targets.contains(&LoraTarget::Gate) && self.blocks[0].gate.is_none() {
            return Err(Error::value("LoRA targets", "layers of the network, which has no gate", "Gate"));
        }
        for weights in self.parameters().into_values() {
            let _ = weights.set_requires_grad(false);
        }
        for (i, block) in self.blocks.iter_mut().enumerate() {
            for (target, name, projection) in block.projections() {
                if config.targets.contains(&target) {
                    let path = name.split('.').fold(p / "blocks" / i, |p, part| p / part);
                    projection.adapt(&path, config);
                }
            }
        }
        Ok(())
    }

    /// Whether the network has adapters.
    pub fn is_adapted(&self) -> bool {
        let block = &self.blocks[0];
        let some = |p: &Projection| p.is_adapted();
        let gate = block.gate.as_ref().is_some_and(some);
        gate || [&block.attention.qkv, &block.attention.out, &block.up, &block.down].into_iter().any(some)
    }

    /// Lets the adapters take part or not: without them the network is the one that was adapted, a reference model at no cost.
    pub fn switch_adapters(&mut self, on: bool) {
        self.each(|p| p.switch(on));
    }

    /// Turns the adapters' dropout on, for training, or off (as at the start).
    pub fn train_adapters(&mut self, on: bool) {
        self.each(|p| p.set_training(on));
    }

    /// Adds the adapters' updates to the weights and drops the adapters: the same function in a network without them. The weights stay
    /// frozen; their store's `unfreeze` ends that.
    pub fn merge_adapters(&mut self) {
        self.each(Projection::merge);
    }

    /// Drops the adapters: the network that was adapted.
    pub fn remove_adapters(&mut self) {
        self.each(Projection::remove);
    }

    fn each(&mut self, f: impl Fn(&mut Projection)) {
        self.blocks.iter_mut().flat_map(|block| block.projections()).for_each(|(_, _, p)| f(p));
    }
}

impl super::Block {
    /// The linear layers by target and name.
    fn projections(&mut self) -> impl Iterator<Item = (LoraTarget, &'static str, &mut Projection)> {
        let gate = self.gate.as_mut().map(|gate| (LoraTarget::Gate, "gate", gate));
        let rest = [
            (LoraTarget::Qkv, "attention.qkv", &mut self.attention.qkv),
            (LoraTarget::Out, "attention.out", &mut self.attention.out),
            (LoraTarget::Up, "up", &mut self.up),
            (LoraTarget::Down, "down", &mut self.down),
        ];
        rest.into_iter().chain(gate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::GptConfig;
    use crate::optim::sorted_trainables;
    use crate::testing::{assert_close, check_gradient};
    use tch::nn::VarStore;
    use tch::{Device, Kind, Tensor};

    use LoraTarget::{Down, Gate, Out, Qkv, Up};

    fn adapted(dropout: f64) -> (VarStore, VarStore, Gpt, Tensor) {
        tch::manual_seed(3);
        let (base, adapters) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
        let mut model = Gpt::new(base.root(), &GptConfig::llama(11, 12, 16, 2, (4, 2), 24)).unwrap();
        let tokens = Tensor::randint(11, [2, 9], (Kind::Int64, Device::Cpu));
        let before = model.logits(&tokens, None).unwrap();
        let config = LoraConfig { rank: 2, alpha: 6.0, dropout, targets: vec![Qkv, Out, Gate, Up, Down] };
        model.adapt(&adapters.root(), &config).unwrap();
        assert_eq!(model.logits(&tokens, None).unwrap(), before, "B starts at zero");
        tch::no_grad(|| {
            for (name, mut t) in adapters.variables().into_iter().filter(|(name, _)| name.ends_with("b")) {
                assert_eq!(t.abs().max().double_value(&[]), 0.0, "{name}");
                let _ = t.normal_(0.0, 0.1);
            }
        });
        (base, adapters, model, tokens)
    }

    #[test]
    fn only_adapters_train_and_merged_or_removed_they_leave_the_function_they_should() {
        let (base, adapters, mut model, tokens) = adapted(0.0);
        assert!(sorted_trainables(&base).is_empty());
        assert_eq!(sorted_trainables(&adapters).len(), 2 * 5 * 2);
        assert!(adapters.variables().contains_key("blocks.1.attention.qkv.a"));
        let with = model.logits(&tokens, None).unwrap();
        with.sum(Kind::Float).backward();
        assert!(adapters.trainable_variables().iter().all(|t| t.grad().defined()));
        model.switch_adapters(false);
        let without = model.logits(&tokens, None).unwrap();
        model.switch_adapters(true);
        assert!((&with - &without).abs().max().double_value(&[]) > 1e-2);
        model.merge_adapters();
        assert!(!model.is_adapted());
        assert_close("merged", &model.logits(&tokens, None).unwrap(), &with, 1e-5);

        let (_base, _adapters, mut model, tokens) = adapted(0.0);
        model.remove_adapters();
        assert_eq!(model.logits(&tokens, None).unwrap(), without);
    }

    #[test]
    fn an_update_is_the_scaled_product() {
        let vs = VarStore::new(Device::Cpu);
        let linear =
            tch::nn::linear(vs.root() / "w", 2, 1, tch::nn::LinearConfig { bias: false, ..Default::default() });
        let mut p = Projection::new(linear);
        p.adapt(&(vs.root() / "lora"), &LoraConfig { rank: 1, alpha: 3.0, ..LoraConfig::default() });
        tch::no_grad(|| {
            let v = vs.variables();
            let set = |name: &str, x: &[f32]| v[name].shallow_clone().copy_(&Tensor::from_slice(x).view_as(&v[name]));
            set("w.weight", &[1.0, 0.0]);
            set("lora.a", &[1.0, 2.0]);
            set("lora.b", &[0.5]);
        });
        // x = (1, 1): 1 + 3 * 0.5 * (1 + 2).
        let x = Tensor::from_slice(&[1.0f32, 1.0]).view([1, 2]);
        assert_eq!(tch::nn::Module::forward(&p, &x).double_value(&[0, 0]), 5.5);
        p.merge();
        assert_eq!(tch::nn::Module::forward(&p, &x).double_value(&[0, 0]), 5.5);
    }

    #[test]
    fn dropout_acts_in_training_only() {
        let (_base, _adapters, mut model, tokens) = adapted(0.5);
        let logits = |model: &Gpt| model.logits(&tokens, None).unwrap();
        assert_eq!(logits(&model), logits(&model));
        model.train_adapters(true);
        assert_ne!(logits(&model), logits(&model));
        model.train_adapters(false);
        assert_eq!(logits(&model), logits(&model));
    }

    #[test]
    fn gradients_of_adapters_agree_with_finite_differences() {
        let (mut base, mut adapters, model, tokens) = adapted(0.0);
        base.double();
        adapters.double();
        let a = adapters.variables()["blocks.0.attention.out.a"].shallow_clone();
        let x = a.detach().copy();
        // The parameter is a leaf of the network: its value is moved, and its gradient handed to `check_gradient`'s leaf.
        check_gradient(&x, 1e-6, |x| {
            tch::no_grad(|| a.shallow_clone().copy_(x));
            let value = model.logits(&tokens, None).unwrap().tanh().sum(Kind::Double);
            if !x.requires_grad() {
                return value;
            }
            value.backward();
            (x * a.grad()).sum(Kind::Double)
        });
    }

    #[test]
    fn bad_settings_are_errors() {
        let vs = VarStore::new(Device::Cpu);
        let mut model = Gpt::new(vs.root(), &GptConfig::gpt2(11, 12, 16, 1, 2)).unwrap();
        let p = vs.root() / "lora";
        let mut check = |config: LoraConfig| model.adapt(&p, &config).unwrap_err().to_string();
        let base = LoraConfig::default;
        assert!(check(LoraConfig { rank: 0, ..base() }).contains("LoRA rank"));
        assert!(check(LoraConfig { dropout: 1.0, ..base() }).contains("LoRA dropout"));
        assert!(check(LoraConfig { targets: vec![], ..base() }).contains("LoRA targets"));
        assert!(check(LoraConfig { targets: vec![Gate], ..base() }).contains("no gate"));
        model.adapt(&p, &base()).unwrap();
        assert!(model.adapt(&p, &base()).unwrap_err().to_string().contains("without adapters"));
    }
}
