//! Embeddings in the places of tokens: given those of tokens, everything is as with the tokens.

use autodidact_core::nn::{Gpt, GptConfig, PatchEmbedding, layers};
use autodidact_core::testing::{assert_close, check_gradient};
use autodidact_core::text::{Sampler, SamplerConfig, pad_left, response_log_probs, response_log_probs_after};
use tch::nn::{Module, VarStore};
use tch::{Device, Kind, Tensor};

/// A network with learned and one with rotary positions, with weights so large that attention is far from uniform.
fn models() -> Vec<(VarStore, Gpt)> {
    tch::manual_seed(7);
    let configs = [GptConfig::gpt2(11, 20, 16, 2, 4), GptConfig::qwen2(11, 20, 16, 2, (4, 2), 24)];
    let of = |config: &GptConfig| {
        let vs = VarStore::new(Device::Cpu);
        let model = Gpt::new(vs.root(), config).unwrap();
        tch::no_grad(|| {
            for mut t in vs.trainable_variables().into_iter().filter(|t| t.dim() > 1) {
                let _ = t.g_mul_scalar_(20.0);
            }
        });
        (vs, model)
    };
    configs.iter().map(of).collect()
}

fn tokens() -> Tensor {
    tch::manual_seed(1);
    Tensor::randint(11, [3, 9], (Kind::Int64, Device::Cpu))
}

#[test]
fn logits_are_those_of_the_tokens() {
    for (_vs, model) in models() {
        let tokens = tokens();
        let want = model.logits(&tokens, None).unwrap();
        let embedded = model.embed(&tokens).unwrap();
        let got = model.project(&model.hidden_of_embeddings(&embedded, None).unwrap());
        assert_eq!(got, want);
        assert_eq!(embedded, model.embed(&tokens).unwrap(), "the input stays as it is");
        // A prefix of embeddings, then tokens, through the cache.
        let mut cache = model.cache(3, Device::Cpu);
        let first = model.hidden_of_embeddings(&embedded.narrow(1, 0, 4), Some(&mut cache)).unwrap();
        let rest = model.hidden(&tokens.narrow(1, 4, 5), Some(&mut cache)).unwrap();
        assert_close("with a cache", &model.project(&Tensor::cat(&[first, rest], 1)), &want, 1e-4);
    }
}

#[test]
fn greedy_samples_are_those_of_the_tokens_padded_or_not() {
    for (_vs, model) in models() {
        let config = SamplerConfig { max_new: 8, temperature: 0.0, padding: -1, ..Default::default() };
        let free = Sampler::new(&model, config.clone()).unwrap();
        let stop = vec![free.sample(&tokens()).unwrap().int64_value(&[1, 2])];
        for sampler in [free, Sampler::new(&model, SamplerConfig { stop, ..config }).unwrap()] {
            let want = sampler.sample(&tokens()).unwrap();
            assert_eq!(sampler.sample_embedded(&model.embed(&tokens()).unwrap()).unwrap(), want);
            let rows = [vec![1, 2, 3, 4, 5, 6], vec![6, 1], vec![3, 3, 0, 5]];
            let (padded, mask) = pad_left(&rows, 0, Device::Cpu).unwrap();
            let want = sampler.sample_padded(&padded, &mask).unwrap();
            let embedded = model.embed(&padded).unwrap();
            assert_eq!(sampler.sample_embedded_padded(&embedded, &mask).unwrap(), want);
            // What stands in the padding is never read.
            let noise = Tensor::randn_like(&embedded).where_self(&mask.logical_not().unsqueeze(2), &embedded);
            assert_eq!(sampler.sample_embedded_padded(&noise, &mask).unwrap(), want);
        }
    }
}

#[test]
fn log_probabilities_after_a_prefix_are_those_of_the_tokens() {
    for (_vs, model) in models() {
        let tokens = tokens();
        let response = Tensor::randint(2, [3, 9], (Kind::Int64, Device::Cpu)).to_kind(Kind::Bool);
        let want = response_log_probs(&model, &tokens, &response).unwrap();
        // Behind a single embedding, too, and with the first token in the response.
        for before in [1, 4, 8] {
            let prefix = model.embed(&tokens.narrow(1, 0, before)).unwrap();
            let rest = |t: &Tensor| t.narrow(1, before, 9 - before);
            let got = response_log_probs_after(&model, &prefix, &rest(&tokens), &rest(&response)).unwrap();
            assert_close("log-probabilities", &got, &rest(&want), 1e-4);
        }
    }
}

#[test]
fn gradients_reach_the_prefix() {
    let (mut vs, model) = models().remove(0);
    vs.double();
    let tokens = tokens();
    let response = Tensor::ones([3, 9], (Kind::Bool, Device::Cpu));
    let prefix = Tensor::randn([3, 1, 16], (Kind::Double, Device::Cpu)) * 0.1;
    check_gradient(&prefix, 1e-5, |p| {
        response_log_probs_after(&model, p, &tokens, &response).unwrap().sum(Kind::Double) * 0.01
    });
}

#[test]
fn patches_are_linear_maps_of_the_squares_in_reading_order() {
    let vs = VarStore::new(Device::Cpu);
    let patches = PatchEmbedding::new(vs.root() / "patches", 2, 4, 6).unwrap();
    let images = Tensor::randn([3, 2, 8, 12], (Kind::Float, Device::Cpu));
    let got = patches.forward(&images).unwrap();
    let mut linear = layers::linear(vs.root() / "linear", 2 * 16, 6, true);
    let variables = vs.variables();
    linear.ws = variables["patches.weight"].view([6, 32]);
    linear.bs = Some(variables["patches.bias"].shallow_clone());
    for (i, (row, column)) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)].into_iter().enumerate() {
        let square = images.narrow(2, 4 * row, 4).narrow(3, 4 * column, 4).reshape([3, 32]);
        assert_close("a patch", &got.select(1, i as i64), &linear.forward(&square), 1e-5);
    }
    let e = patches.forward(&images.narrow(3, 0, 10)).unwrap_err().to_string();
    assert!(e.contains("a multiple of 4"), "{e}");
    assert!(patches.forward(&images.narrow(1, 0, 1)).is_err());
    assert!(PatchEmbedding::new(vs.root(), 1, 0, 6).is_err());
}

#[test]
fn what_does_not_fit_is_refused() {
    let (_vs, model) = models().remove(0);
    let tokens = tokens();
    let response = Tensor::ones([3, 9], (Kind::Bool, Device::Cpu));
    let zeros = |shape: [i64; 3]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let e = model.hidden_of_embeddings(&zeros([1, 2, 15]), None).unwrap_err().to_string();
    assert!(e.contains("[B, T, 16]"), "{e}");
    let e = model.hidden_of_embeddings(&zeros([1, 21, 16]), None).unwrap_err().to_string();
    assert!(e.contains("at most the context of 20"), "{e}");
    let e = model.hidden_of_embeddings(&zeros([1, 2, 16]).to_kind(Kind::Int64), None).unwrap_err().to_string();
    assert!(e.contains("tokens go to `hidden`"), "{e}");
    assert!(model.embed(&zeros([1, 2, 3])).is_err());
    for shape in [[2, 4, 16], [3, 0, 16], [3, 4, 15]] {
        assert!(response_log_probs_after(&model, &zeros(shape), &tokens, &response).is_err(), "{shape:?}");
    }
    let short = response.narrow(1, 0, 8);
    assert!(response_log_probs_after(&model, &zeros([3, 4, 16]), &tokens, &short).is_err());
    let sampler = Sampler::new(&model, SamplerConfig::default()).unwrap();
    assert!(sampler.sample_embedded(&zeros([3, 4, 16]).select(1, 0)).is_err());
    let mask = Tensor::ones([3, 3], (Kind::Bool, Device::Cpu));
    let e = sampler.sample_embedded_padded(&zeros([3, 4, 16]), &mask).unwrap_err().to_string();
    assert!(e.contains("Bool [3, 4]"), "{e}");
}
