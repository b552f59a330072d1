//! Prompts with their responses as batches: padded to one length, or packed into rows of a given length.

use super::pad;
use crate::error::check_range;
use crate::{Error, Result};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Prompts and their responses as one batch: tokens `[B, T]`, padded on the right with `padding`, and a mask `[B, T]` (bool) of the
/// responses, as [`response_log_probs`](super::response_log_probs) takes them.
///
/// ```
/// use autodidact_core::text::pad_responses;
/// use tch::Device;
/// let (tokens, response) = pad_responses([(&[1, 2][..], &[5, 6][..]), (&[1], &[7])], 0, Device::Cpu).unwrap();
/// assert_eq!(Vec::<Vec<i64>>::try_from(tokens).unwrap(), [[1, 2, 5, 6], [1, 7, 0, 0]]);
/// assert_eq!(Vec::<Vec<bool>>::try_from(response).unwrap(), [[false, false, true, true], [false, true, false, false]]);
/// ```
///
/// # Errors
/// No sequences, or only empty ones.
pub fn pad_responses<'a>(
    sequences: impl IntoIterator<Item = (&'a [i64], &'a [i64])>,
    padding: i64,
    device: Device,
) -> Result<(Tensor, Tensor)> {
    let (rows, prompts): (Vec<Vec<i64>>, Vec<i64>) =
        sequences.into_iter().map(|(prompt, response)| ([prompt, response].concat(), prompt.len() as i64)).unzip();
    let (tokens, mask) = pad(&rows, padding, device)?;
    let places = Tensor::arange(tokens.size()[1], (Kind::Int64, device)).unsqueeze(0);
    let prompts = Tensor::from_slice(&prompts).to_device(device).unsqueeze(1);
    let response = places.ge_tensor(&prompts).logical_and(&mask);
    Ok((tokens, response))
}

/// The same packed: sequences one behind the other in rows of `length` tokens, so that little is padding. Longer sequences lose their
/// last tokens; the longest are placed first, each into the fullest row that has room. A token sees the sequences before it in its row:
/// end each with its end of text.
///
/// ```
/// use autodidact_core::text::pack_responses;
/// use tch::Device;
/// let all: [(&[i64], &[i64]); 3] = [(&[1], &[2, 3]), (&[4], &[5]), (&[6], &[7, 8, 9])];
/// let (tokens, response) = pack_responses(all, 5, 0, Device::Cpu).unwrap();
/// assert_eq!(Vec::<Vec<i64>>::try_from(tokens).unwrap(), [[6, 7, 8, 9, 0], [1, 2, 3, 4, 5]]);
/// assert_eq!(response.sum(tch::Kind::Int64).int64_value(&[]), 6);
/// ```
///
/// # Errors
/// No sequences, or only empty ones; a length below 2.
pub fn pack_responses<'a>(
    sequences: impl IntoIterator<Item = (&'a [i64], &'a [i64])>,
    length: usize,
    padding: i64,
    device: Device,
) -> Result<(Tensor, Tensor)> {
    check_range("length", length as f64, 2.0..)?;
    let mut all: Vec<(&[i64], &[i64])> =
        sequences.into_iter().filter(|(p, r)| !p.is_empty() || !r.is_empty()).collect();
    if all.is_empty() {
        return Err(Error::value("sequences", "at least one that is not empty", "none"));
    }
    let size = |(prompt, response): &(&[i64], &[i64])| (prompt.len() + response.len()).min(length);
    all.sort_by_key(|s| std::cmp::Reverse(size(s)));
    let (mut tokens, mut response): (Vec<Vec<i64>>, Vec<Vec<bool>>) = (vec![], vec![]);
    // Rows by the room that is left in them.
    let mut open: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for sequence in all {
        let size = size(&sequence);
        let found = open.range_mut(size..).next().map(|(&room, rows)| (room, rows.pop(), rows.is_empty()));
        let (room, row) = match found {
            Some((room, Some(row), empty)) => {
                if empty {
                    open.remove(&room);
                }
                (room, row)
            }
            _ => {
                tokens.push(Vec::with_capacity(length));
                response.push(Vec::with_capacity(length));
                (length, tokens.len() - 1)
            }
        };
        let (prompt, answer) = sequence;
        tokens[row].extend(prompt.iter().chain(answer).take(size));
        let answers = |i| i >= prompt.len();
        response[row].extend((0..size).map(answers));
        open.entry(room - size).or_default().push(row);
    }
    for (tokens, response) in tokens.iter_mut().zip(&mut response) {
        tokens.resize(length, padding);
        response.resize(length, false);
    }
    let shape = [tokens.len() as i64, length as i64];
    let batch = |t: Tensor| t.view(shape).to_device(device);
    Ok((batch(Tensor::from_slice(&tokens.concat())), batch(Tensor::from_slice(&response.concat()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_rows_hold_every_token_once_and_are_full() {
        // 40 sequences of 1 to 10 tokens, numbered through.
        let mut next = 0;
        let all: Vec<(Vec<i64>, Vec<i64>)> = (0..40usize)
            .map(|i| {
                let mut some = |n: usize| {
                    next += n as i64;
                    (next - n as i64 + 1..=next).collect::<Vec<_>>()
                };
                (some(i % 3), some(1 + i % 8))
            })
            .collect();
        let pairs = all.iter().map(|(p, r)| (&p[..], &r[..]));
        let (tokens, response) = pack_responses(pairs.clone(), 12, 0, Device::Cpu).unwrap();
        let rows = tokens.size()[0];
        assert!(rows as usize <= (next as usize).div_ceil(12) + 1, "{rows} rows for {next} tokens");
        let mut seen: Vec<i64> = Vec::try_from(tokens.reshape([-1])).unwrap();
        seen.retain(|&t| t > 0);
        seen.sort_unstable();
        assert_eq!(seen, (1..=next).collect::<Vec<_>>());
        let answers: Vec<i64> = Vec::try_from(tokens.masked_select(&response)).unwrap();
        let expected: std::collections::HashSet<i64> = all.iter().flat_map(|(_, r)| r.clone()).collect();
        assert_eq!(answers.len(), expected.len());
        assert!(answers.iter().all(|t| expected.contains(t)));
    }

    #[test]
    fn long_sequences_lose_their_ends_and_bad_input_is_an_error() {
        let long: Vec<i64> = (1..=9).collect();
        let (tokens, response) = pack_responses([(&long[..2], &long[2..])], 4, 0, Device::Cpu).unwrap();
        assert_eq!(Vec::<i64>::try_from(tokens.view(-1)).unwrap(), [1, 2, 3, 4]);
        assert_eq!(Vec::<bool>::try_from(response.view(-1)).unwrap(), [false, false, true, true]);
        assert!(pack_responses([], 4, 0, Device::Cpu).is_err());
        assert!(pack_responses([(&[][..], &[][..])], 4, 0, Device::Cpu).is_err());
        assert!(pack_responses([(&long[..2], &long[2..])], 1, 0, Device::Cpu).is_err());
        assert!(pad_responses([], 0, Device::Cpu).is_err());
    }
}
