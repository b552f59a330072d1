//! Who took what, in which order: interactions of users with items, and the formats in which they are published.
//!
//! ```
//! use autodidact_datasets::interactions::Interactions;
//! let events = [("ann", "milk", 2), ("bob", "milk", 1), ("ann", "bread", 1)].map(|(u, i, t)| (u.into(), i.into(), t));
//! let all = Interactions::from_events(events.to_vec());
//! // Items are numbered from 1, in the order in which they first appear; sequences go by time.
//! assert_eq!(all.items, ["milk", "bread"]);
//! assert_eq!(all.sequences, [vec![2, 1], vec![1]]);
//! ```

mod formats;

pub use formats::{amazon, movielens_1m, movielens_100k};

use autodidact_core::{Error, Result};
use std::collections::HashMap;
use tch::Tensor;

/// Sequences of items by user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interactions {
    /// For each user the items by time, numbered from 1; 0 is free for padding.
    pub sequences: Vec<Vec<i64>>,
    /// The users' names.
    pub users: Vec<String>,
    /// The items' names; that of item `i` at `i - 1`.
    pub items: Vec<String>,
    /// For each item the indices of its genres; empty where they are not known.
    pub genres: Vec<Vec<usize>>,
    /// The genres' names.
    pub genre_names: Vec<String>,
}

impl Interactions {
    /// From `(user, item, time)`. Events of a user at one time keep their order.
    pub fn from_events(events: Vec<(String, String, i64)>) -> Self {
        let mut all = Self::default();
        let (mut users, mut items) = (HashMap::new(), HashMap::new());
        let mut timed: Vec<Vec<(i64, i64)>> = vec![];
        for (user, item, time) in events {
            let u = *users.entry(user).or_insert_with_key(|name: &String| {
                all.users.push(name.clone());
                timed.push(vec![]);
                timed.len() - 1
            });
            let i = *items.entry(item).or_insert_with_key(|name: &String| {
                all.items.push(name.clone());
                all.items.len() as i64
            });
            timed[u].push((time, i));
        }
        for mut events in timed {
            events.sort_by_key(|(time, _)| *time);
            all.sequences.push(events.into_iter().map(|(_, item)| item).collect());
        }
        all.genres = vec![vec![]; all.items.len()];
        all
    }

    /// Without the users and items of fewer than `least` interactions, again and again until none is left (the `least`-core).
    pub fn core(mut self, least: usize) -> Self {
        loop {
            let mut counts = vec![0usize; self.items.len()];
            self.sequences.iter().flatten().for_each(|i| counts[*i as usize - 1] += 1);
            let (users, rare) = (self.users.len(), counts.iter().any(|c| *c < least));
            if rare {
                let mut number = 0;
                let numbers: Vec<Option<i64>> = counts
                    .iter()
                    .map(|c| {
                        (*c >= least).then(|| {
                            number += 1;
                            number
                        })
                    })
                    .collect();
                for sequence in &mut self.sequences {
                    *sequence = sequence.iter().filter_map(|i| numbers[*i as usize - 1]).collect();
                }
                let mut kept = numbers.iter().map(Option::is_some);
                self.items.retain(|_| kept.next() == Some(true));
                let mut kept = numbers.iter().map(Option::is_some);
                self.genres.retain(|_| kept.next() == Some(true));
            }
            let mut long = self.sequences.iter().map(|s| s.len() >= least).collect::<Vec<_>>().into_iter();
            self.users.retain(|_| long.next() == Some(true));
            self.sequences.retain(|s| s.len() >= least);
            if !rare && self.users.len() == users {
                return self;
            }
        }
    }

    /// With only the last `most` interactions of each user.
    pub fn last(mut self, most: usize) -> Self {
        for sequence in &mut self.sequences {
            sequence.drain(..sequence.len().saturating_sub(most));
        }
        self
    }
}

/// Sequences as rows, padded with 0 on the right: `[N, T]` with `T` the longest's length, and the lengths `[N]`.
///
/// # Errors
/// No sequences, or an empty one.
pub fn padded<S: AsRef<[i64]>>(sequences: &[S]) -> Result<(Tensor, Tensor)> {
    let lengths: Vec<i64> = sequences.iter().map(|s| s.as_ref().len() as i64).collect();
    let Some(longest) = lengths.iter().copied().max().filter(|_| lengths.iter().all(|l| *l > 0)) else {
        return Err(Error::value("sequences", "one or more, none of them empty", sequences.len()));
    };
    let mut rows = vec![0i64; sequences.len() * longest as usize];
    for (row, sequence) in rows.chunks_mut(longest as usize).zip(sequences) {
        row[..sequence.as_ref().len()].copy_from_slice(sequence.as_ref());
    }
    Ok((Tensor::from_slice(&rows).view([-1, longest]), Tensor::from_slice(&lengths)))
}
