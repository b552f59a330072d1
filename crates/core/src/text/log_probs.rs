//! Log-probabilities of given tokens, without ever holding logits of a batch.

use crate::error::{check_device, check_values};
use crate::nn::Gpt;
use crate::{Error, Result, shim};
use tch::{Device, Kind, Tensor};

/// Logits that exist at one time: 128 MB in 32 bits. Large parts keep the matrix products efficient.
const PART: i64 = 1 << 25;

/// Log-probabilities `[...]` (32 bits; 64 where `hidden` has them) of the tokens `targets [...]` (Int64) under
/// `softmax(hidden head^T)`, for `hidden [..., H]` and `head [V, H]` of one type.
///
/// The rows are worked off in parts, forward and backward, so that `[..., V]` never exists; the backward pass computes each
/// part's logits again. A negative target is left out: its value is 0, and no gradient comes from it (nor, on the CPU, any cost).
/// Differentiable once, with respect to `hidden` and `head`.
///
/// ```
/// use autodidact_core::text::selected_log_probs;
/// use tch::Tensor;
/// let hidden = Tensor::from_slice2(&[[1f64, 0.], [0., 1.]]);
/// let head = Tensor::from_slice2(&[[3f64.ln(), 0.], [0., 0.]]);
/// let l = selected_log_probs(&hidden, &head, &Tensor::from_slice(&[0i64, 1])).unwrap();
/// // Logits (ln 3, 0) and (0, 0).
/// assert!((l.double_value(&[0]) - 0.75f64.ln()).abs() < 1e-12);
/// assert!((l.double_value(&[1]) - 0.5f64.ln()).abs() < 1e-12);
/// ```
///
/// # Errors
/// Shapes, types or devices that do not fit together; (on the CPU) targets of `V` or more.
pub fn selected_log_probs(hidden: &Tensor, head: &Tensor, targets: &Tensor) -> Result<Tensor> {
    in_parts(hidden, head, targets, PART)
}

fn in_parts(hidden: &Tensor, head: &Tensor, targets: &Tensor, part: i64) -> Result<Tensor> {
    let shape = targets.size();
    let (vocab, width) = match head.size()[..] {
        [v, h] if v > 0 && h > 0 => (v, h),
        _ => return Err(Error::shape("head", "[V, H]", head)),
    };
    if hidden.size() != [&shape[..], &[width]].concat() {
        return Err(Error::shape("hidden", format!("{shape:?} and {width} features, as targets and head say"), hidden));
    }
    if targets.kind() != Kind::Int64 {
        return Err(Error::value("targets", "token indices (Int64)", format!("{:?}", targets.kind())));
    }
    if hidden.kind() != head.kind() {
        return Err(Error::value(
            "head",
            format!("the type of hidden, {:?}", hidden.kind()),
            format!("{:?}", head.kind()),
        ));
    }
    for (what, tensor) in [("head", head), ("targets", targets)] {
        check_device(what, tensor, hidden.device())?;
    }
    let targets = targets.reshape([-1]);
    check_values("targets", &targets, ..vocab as f64)?;
    let rows = (part / vocab).max(1);
    let hidden = hidden.reshape([-1, width]);
    if hidden.device() != Device::Cpu {
        // How many rows are kept is known to the device alone: to ask would hold it up at every step, for less than the rows cost it.
        let left_out = targets.lt(0);
        // Zeros, so that nothing of those rows, NaN say, reaches the head's gradient.
        let hidden = hidden.masked_fill(&left_out.unsqueeze(1), 0.0);
        let picked = shim::selected_log_probs(&hidden, head, &targets.clamp_min(0), rows)?;
        return Ok(picked.masked_fill(&left_out, 0.0).view(&shape[..]));
    }
    let kept = targets.ge(0).nonzero().squeeze_dim(1);
    if kept.size()[0] == targets.size()[0] {
        return Ok(shim::selected_log_probs(&hidden, head, &targets, rows)?.view(&shape[..]));
    }
    let (some, chosen) = (hidden.index_select(0, &kept), targets.index_select(0, &kept));
    let picked = shim::selected_log_probs(&some, head, &chosen, rows)?;
    let all = Tensor::zeros(targets.size(), (picked.kind(), picked.device()));
    Ok(all.index_copy(0, &kept, &picked).view(&shape[..]))
}

/// Log-probabilities `[B, T]` of each token of `tokens [B, T]` (Int64) given those before it, where `response [B, T]` (Bool)
/// says so; elsewhere (prompt, padding) and for the first token 0. Sums over the second dimension are the log-probabilities
/// of the responses.
///
/// # Errors
/// As [`Gpt::hidden`]; a mask of another shape or type; sequences shorter than two tokens.
pub fn response_log_probs(model: &Gpt, tokens: &Tensor, response: &Tensor) -> Result<Tensor> {
    check_response(tokens, response)?;
    let length = match tokens.size()[..] {
        [_, t] if t >= 2 => t - 1,
        _ => return Err(Error::shape("tokens", "[B, T] of at least two tokens", tokens)),
    };
    let hidden = model.hidden(&tokens.narrow(1, 0, length), None)?;
    let targets = tokens.narrow(1, 1, length).masked_fill(&response.narrow(1, 1, length).logical_not(), -1);
    Ok(selected_log_probs(&hidden, model.head(), &targets)?.constant_pad_nd([1, 0]))
}

/// The loss of supervised fine-tuning: the mean negative log-probability of the response tokens of a batch, in nats (prompts and padding
/// are given, not learnt). `tokens` and `response [B, T]` are those of [`pad_responses`](super::pad_responses) or
/// [`pack_responses`](super::pack_responses).
///
/// # Errors
/// As [`response_log_probs`]; (on the CPU) no response token behind another token.
pub fn response_loss(model: &Gpt, tokens: &Tensor, response: &Tensor) -> Result<Tensor> {
    let each = response_log_probs(model, tokens, response)?;
    let by_row = each.sum_dim_intlist([1i64].as_slice(), false, each.kind());
    // Nothing predicts a first token.
    let count = response.narrow(1, 1, response.size()[1] - 1).sum(each.kind());
    check_values("response tokens", &count, 1.0..)?;
    Ok(-by_row.sum(each.kind()) / count)
}

/// The same for tokens behind a prefix of one or more embeddings `[B, P, width]` without positions (those of an image, say), through
/// which gradients flow. The first token is predicted from the prefix, so that it counts where `response` says so.
///
/// # Errors
/// As [`Gpt::hidden_of_embeddings`]; a mask of another shape or type; a prefix of another batch or without embeddings.
pub fn response_log_probs_after(model: &Gpt, prefix: &Tensor, tokens: &Tensor, response: &Tensor) -> Result<Tensor> {
    check_response(tokens, response)?;
    let (batch, length) = match tokens.size()[..] {
        [b, t] if t >= 1 => (b, t),
        _ => return Err(Error::shape("tokens", "[B, T] of at least one token", tokens)),
    };
    let before = match prefix.size()[..] {
        [b, p, _] if b == batch && p >= 1 => p,
        _ => return Err(Error::shape("prefix", format!("[{batch}, 1 or more, width]"), prefix)),
    };
    let words = model.embed(&tokens.narrow(1, 0, length - 1))?;
    let hidden = model.hidden_of_embeddings(&Tensor::f_cat(&[prefix, &words], 1)?, None)?.narrow(1, before - 1, length);
    let targets = tokens.masked_fill(&response.logical_not(), -1);
    selected_log_probs(&hidden, model.head(), &targets)
}

fn check_response(tokens: &Tensor, response: &Tensor) -> Result<()> {
    if response.size() != tokens.size() || response.kind() != Kind::Bool {
        return Err(Error::shape("response mask", format!("Bool {:?}, as the tokens", tokens.size()), response));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::GptConfig;
    use crate::testing::{assert_close, check_gradient};
    use tch::{Device, nn::VarStore};

    fn inputs() -> (Tensor, Tensor, Tensor) {
        tch::manual_seed(3);
        let options = (Kind::Double, Device::Cpu);
        let targets = Tensor::from_slice(&[0i64, 4, -1, 2, 6, -1]).view([2, 3]);
        (Tensor::randn([2, 3, 5], options), Tensor::randn([7, 5], options), targets)
    }

    #[test]
    fn parts_of_any_size_give_the_values_and_gradients_of_whole_logits() {
        let (hidden, head, targets) = inputs();
        let weights = Tensor::from_slice(&[0.3f64, -1.0, 5.0, 0.7, 2.0, 5.0]).view([2, 3]);
        let leaves = || [&hidden, &head].map(|t| t.copy().set_requires_grad(true));
        let [h, w] = leaves();
        let whole =
            h.matmul(&w.tr()).log_softmax(-1, None::<Kind>).gather(2, &targets.clamp_min(0).unsqueeze(2), false);
        let whole = whole.squeeze_dim(2) * targets.ge(0);
        (&whole * &weights).sum(Kind::Double).backward();
        for part in [1, 14, 100] {
            let [h2, w2] = leaves();
            let got = in_parts(&h2, &w2, &targets, part).unwrap();
            assert_close("log-probabilities", &got, &whole, 1e-14);
            (&got * &weights).sum(Kind::Double).backward();
            assert_close("hidden's gradient", &h2.grad(), &h.grad(), 1e-13);
            assert_close("the head's gradient", &w2.grad(), &w.grad(), 1e-13);
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (hidden, head, targets) = inputs();
        check_gradient(&hidden, 1e-6, |h| in_parts(h, &head, &targets, 14).unwrap().square().sum(Kind::Double));
        check_gradient(&head, 1e-6, |w| in_parts(&hidden, w, &targets, 14).unwrap().square().sum(Kind::Double));
    }

    #[test]
    fn half_precision_is_summed_in_32_bits() {
        let (hidden, head, targets) = inputs();
        let [h, w] = [&hidden, &head].map(|t| t.to_kind(Kind::BFloat16).set_requires_grad(true));
        let got = selected_log_probs(&h, &w, &targets).unwrap();
        assert_eq!(got.kind(), Kind::Float);
        let exact = selected_log_probs(&hidden, &head, &targets).unwrap();
        assert_close("log-probabilities", &got, &exact, 0.05);
        got.sum(Kind::Float).backward();
        assert_eq!((h.grad().kind(), w.grad().kind()), (Kind::BFloat16, Kind::BFloat16));
        // However many parts are added up, the head's gradient is rounded about once.
        let rows = Tensor::randn([512, 5], (Kind::BFloat16, Device::Cpu));
        let to = Tensor::zeros([512], (Kind::Int64, Device::Cpu));
        let gradient = |kind: Kind, part: i64| {
            let w = head.to_kind(Kind::BFloat16).to_kind(kind).set_requires_grad(true);
            in_parts(&rows.to_kind(kind), &w, &to, part).unwrap().sum(kind).backward();
            w.grad()
        };
        assert_close("the head's gradient", &gradient(Kind::BFloat16, 7), &gradient(Kind::Double, 1 << 20), 0.02);
    }

    #[test]
    fn responses_are_counted_from_the_token_before_and_prompts_are_not() {
        tch::manual_seed(0);
        let vs = VarStore::new(Device::Cpu);
        let model = Gpt::new(vs.root(), &GptConfig::gpt2(9, 8, 16, 1, 2)).unwrap();
        let tokens = Tensor::from_slice(&[1i64, 2, 3, 4, 5, 1, 6, 7, 0, 0]).view([2, 5]);
        let response =
            Tensor::from_slice(&[false, false, true, true, true, false, true, true, false, false]).view([2, 5]);
        let got = response_log_probs(&model, &tokens, &response).unwrap();
        let all = model.logits(&tokens, None).unwrap().log_softmax(-1, None::<Kind>);
        for row in 0..2 {
            for t in 0..5 {
                let counted = response.get(row).int64_value(&[t]) == 1;
                let token = tokens.int64_value(&[row, t]);
                let want = if counted { all.double_value(&[row, t - 1, token]) } else { 0.0 };
                assert!((got.double_value(&[row, t]) - want).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (hidden, head, targets) = inputs();
        let error = |h: &Tensor, w: &Tensor, t: &Tensor| selected_log_probs(h, w, t).unwrap_err().to_string();
        assert!(error(&hidden, &head, &(&targets + 1)).contains("..7.0"));
        assert!(error(&hidden, &head.tr(), &targets).contains("hidden"));
        assert!(error(&hidden, &head.to_kind(Kind::Float), &targets).contains("type of hidden"));
        assert!(error(&hidden, &head, &targets.to_kind(Kind::Float)).contains("token indices"));
    }
}
