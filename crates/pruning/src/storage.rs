//! Pruned networks on disk: what is masked is not stored.
//!
//! The file is safetensors. A masked parameter `w` of `n` weights is three tensors: `w.kept`, the weights that are kept, in order; `w.mask`,
//! a bit for each weight (the lowest bit of a byte first); and `w.shape`. Everything else is stored as it is. So a 32-bit parameter of
//! sparsity `s` takes `32 (1 - s) + 1` bits per weight.

use autodidact_core::masks::Masks;
use autodidact_core::train::write_atomically;
use autodidact_core::{Error, Result};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::path::Path;
use tch::nn::VarStore;
use tch::{Kind, Tensor};

const KEPT: &str = ".kept";
const MASK: &str = ".mask";
const SHAPE: &str = ".shape";

/// Saves the variables of a store, those under `masks` without what is masked. Weights are stored as f32.
///
/// # Errors
/// What the system says; masks of parameters that the store does not have, a variable whose name ends as the parts of a masked one do.
pub fn save(path: impl AsRef<Path>, vs: &VarStore, masks: &Masks) -> Result<()> {
    let variables: BTreeMap<String, Tensor> = vs.variables().into_iter().collect();
    let masked: BTreeMap<&str, &Tensor> = masks.iter().collect();
    let fits = |(name, mask): &(&&str, &&Tensor)| variables.get(**name).is_some_and(|v| v.size() == mask.size());
    if let Some((name, mask)) = masked.iter().find(|entry| !fits(entry)) {
        let got = format!("{name} of {:?}", mask.size());
        return Err(Error::value("masks", "of variables of the store, in their shapes", got));
    }
    let mut parts: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = vec![];
    for (name, tensor) in &variables {
        if let Some(end) = [KEPT, MASK, SHAPE].into_iter().find(|end| name.ends_with(end)) {
            return Err(Error::value("name of a variable", format!("one that does not end in {end}"), name));
        }
        let shape: Vec<usize> = tensor.size().iter().map(|n| *n as usize).collect();
        let flat = tensor.detach().flatten(0, -1).to_kind(Kind::Float);
        match masked.get(name.as_str()) {
            None => parts.push((name.clone(), Dtype::F32, shape, bytes(&flat)?)),
            Some(mask) => {
                let kept = mask.flatten(0, -1).gt(0.0);
                let weights = flat.masked_select(&kept);
                let shape: Vec<u8> = shape.iter().flat_map(|n| (*n as i64).to_le_bytes()).collect();
                let bits = pack(&Vec::<bool>::try_from(kept)?);
                parts.push((format!("{name}{KEPT}"), Dtype::F32, vec![weights.numel()], bytes(&weights)?));
                parts.push((format!("{name}{MASK}"), Dtype::U8, vec![bits.len()], bits));
                parts.push((format!("{name}{SHAPE}"), Dtype::I64, vec![shape.len() / 8], shape));
            }
        }
    }
    let broken = |e: safetensors::SafeTensorError| Error::Failed(format!("{}: {e}", path.as_ref().display()));
    let views = parts.iter().map(|(name, kind, shape, data)| {
        Ok((name.as_str(), TensorView::new(*kind, shape.clone(), data).map_err(broken)?))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    write_atomically(path.as_ref(), &safetensors::serialize(views, None).map_err(broken)?)
}

/// Loads what [`save`] wrote into the variables of a store, masked weights being 0, and gives the masks.
///
/// # Errors
/// A file that cannot be read, is damaged, or is that of another network.
pub fn load(path: impl AsRef<Path>, vs: &VarStore) -> Result<Masks> {
    let path = path.as_ref();
    let data = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let refuse = |expected: String, found: String| Error::format(path, expected, found);
    let file = safetensors::SafeTensors::deserialize(&data)
        .map_err(|e| refuse("a safetensors file".into(), format!("something else ({e})")))?;
    let find = |name: &str| file.tensor(name).ok();
    let variables: BTreeMap<String, Tensor> = vs.variables().into_iter().collect();
    let (mut read, mut masked, mut masks) = (vec![], vec![], vec![]);
    for (name, to) in &variables {
        let n = to.numel();
        let other = || refuse(format!("{name} of {:?}", to.size()), "that of another network, or none".into());
        let full = if let Some(view) = find(name) {
            let values = floats(view.data());
            if view.dtype() != Dtype::F32 || view.shape().iter().map(|n| *n as i64).ne(to.size()) {
                return Err(other());
            }
            values
        } else {
            let [Some(kept), Some(bits), Some(shape)] = [KEPT, MASK, SHAPE].map(|end| find(&format!("{name}{end}")))
            else {
                return Err(other());
            };
            let shape: Vec<i64> =
                shape.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("8 bytes"))).collect();
            let mask = unpack(bits.data(), n);
            let values = floats(kept.data());
            let fits = kept.dtype() == Dtype::F32 && mask.iter().filter(|m| **m).count() == values.len();
            if shape != to.size() || !fits || bits.data().len() != n.div_ceil(8) {
                return Err(other());
            }
            let mut values = values.into_iter();
            let full = mask.iter().map(|m| if *m { values.next().unwrap_or(0.0) } else { 0.0 }).collect();
            masked.push((name.clone(), to.shallow_clone()));
            masks.push(Tensor::from_slice(&mask).view(to.size().as_slice()));
            full
        };
        read.push((to, full));
    }
    // Everything fits: only now anything changes.
    for (to, values) in read {
        let from = Tensor::from_slice(&values).view(to.size().as_slice());
        tch::no_grad(|| to.shallow_clone().f_copy_(&from).map(|_| ()))?;
    }
    Masks::of(masked).with(masks)
}

fn bytes(flat: &Tensor) -> Result<Vec<u8>> {
    Ok(Vec::<f32>::try_from(flat)?.iter().flat_map(|v| v.to_le_bytes()).collect())
}

fn floats(data: &[u8]) -> Vec<f32> {
    data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes"))).collect()
}

fn pack(mask: &[bool]) -> Vec<u8> {
    mask.chunks(8).map(|c| c.iter().enumerate().map(|(i, m)| u8::from(*m) << i).sum()).collect()
}

fn unpack(bits: &[u8], n: usize) -> Vec<bool> {
    bits.iter().flat_map(|b| (0..8).map(move |i| b >> i & 1 == 1)).take(n).collect()
}
