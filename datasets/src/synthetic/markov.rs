//! Interactions with known structure: a Markov chain on items, tastes, popularity.

use crate::interactions::Interactions;
use autodidact_core::error::check_range;
use autodidact_core::seed::{self, Rng};
use autodidact_core::{Error, Result};
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

/// Probabilities of an item's successors.
const SUCCESSORS: [f64; 3] = [0.6, 0.3, 0.1];
/// Favourite genres of a user.
const FAVOURITES: usize = 3;

/// A shop: every item has a genre and three fixed successors of the same genre. With probability `chain` a user's next item is a successor of
/// the last one (first, second, third with 0.6, 0.3, 0.1); else the user stays in the last genre with probability `stay`, or draws one of three
/// favourite genres, and then an item of the genre by popularity, `rank^-popularity`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MarkovShop {
    /// Users.
    pub users: usize,
    /// Items.
    pub items: usize,
    /// Genres.
    pub genres: usize,
    /// Interactions of every user.
    pub length: usize,
    /// Probability of a successor.
    pub chain: f64,
    /// Probability to stay in the genre, when there is no successor.
    pub stay: f64,
    /// Exponent of the popularity.
    pub popularity: f64,
}

impl Default for MarkovShop {
    fn default() -> Self {
        Self { users: 2000, items: 300, genres: 12, length: 22, chain: 0.5, stay: 0.7, popularity: 0.8 }
    }
}

/// A [`MarkovShop`]'s interactions with what made them.
#[derive(Debug, Clone)]
pub struct MarkovInteractions {
    /// The interactions; items have one genre each.
    pub interactions: Interactions,
    /// The three successors of every item, numbered from 1 as in the sequences; those of item `i` at `i - 1`.
    pub successors: Vec<[i64; 3]>,
}

impl MarkovShop {
    /// Draws items, then users. A user's sequence does not depend on how many users there are.
    ///
    /// # Errors
    /// No users, no length, fewer genres than three, too few items for four in every genre, probabilities outside `[0, 1]`.
    pub fn generate(&self, seed: u64) -> Result<MarkovInteractions> {
        check_range("users", self.users as f64, 1.0..)?;
        check_range("length", self.length as f64, 1.0..)?;
        check_range("genres", self.genres as f64, FAVOURITES as f64..)?;
        check_range("chain", self.chain, 0.0..=1.0)?;
        check_range("stay", self.stay, 0.0..=1.0)?;
        check_range("popularity", self.popularity, 0.0..)?;
        if self.items < 4 * self.genres {
            let expected = format!("at least four in each of {} genres", self.genres);
            return Err(Error::value("items", expected, self.items));
        }
        let rng = &mut seed::rng(seed, &["markov shop", "items"]);
        // As even as can be, in random order.
        let mut genre: Vec<usize> = (0..self.items).map(|i| i % self.genres).collect();
        genre.shuffle(rng);
        let mut rank: Vec<usize> = (1..=self.items).collect();
        rank.shuffle(rng);
        let weight: Vec<f64> = rank.iter().map(|r| (*r as f64).powf(-self.popularity)).collect();
        let members: Vec<Vec<usize>> =
            (0..self.genres).map(|g| (0..self.items).filter(|i| genre[*i] == g).collect()).collect();
        let successors: Vec<[i64; 3]> = (0..self.items)
            .map(|i| {
                let others: Vec<i64> = members[genre[i]].iter().filter(|j| **j != i).map(|j| *j as i64 + 1).collect();
                let mut chosen = others.sample(rng, 3).copied();
                [(); 3].map(|()| chosen.next().expect("a genre has four items or more"))
            })
            .collect();
        let popular = |g: usize, rng: &mut Rng| -> i64 {
            let of = |i: usize| weight[members[g][i]];
            members[g][draw((0..members[g].len()).map(of), rng)] as i64 + 1
        };
        let user = |u: usize| -> Vec<i64> {
            let rng = &mut seed::rng(seed, &["markov shop", "user", &u.to_string()]);
            let all: Vec<usize> = (0..self.genres).collect();
            let favourites: Vec<usize> = all.sample(rng, FAVOURITES).copied().collect();
            // Uniform on the simplex: normalised exponentials.
            let tastes = [(); FAVOURITES].map(|()| -(1.0 - rng.random::<f64>()).ln());
            let taste = |rng: &mut Rng| favourites[draw(tastes.iter().copied(), rng)];
            let first = taste(rng);
            let mut items = vec![popular(first, rng)];
            while items.len() < self.length {
                let last = items[items.len() - 1] as usize - 1;
                let next = if rng.random::<f64>() < self.chain {
                    successors[last][draw(SUCCESSORS.into_iter(), rng)]
                } else {
                    let g = if rng.random::<f64>() < self.stay { genre[last] } else { taste(rng) };
                    popular(g, rng)
                };
                items.push(next);
            }
            items
        };
        let name = |kind: &str, n: usize| (1..=n).map(|i| format!("{kind} {i}")).collect();
        let interactions = Interactions {
            sequences: (0..self.users).map(user).collect(),
            users: name("user", self.users),
            items: name("item", self.items),
            genres: genre.iter().map(|g| vec![*g]).collect(),
            genre_names: name("genre", self.genres),
        };
        Ok(MarkovInteractions { interactions, successors })
    }
}

/// An index with probability in proportion to its weight.
fn draw(weights: impl Iterator<Item = f64> + Clone, rng: &mut Rng) -> usize {
    let mut left = rng.random::<f64>() * weights.clone().sum::<f64>();
    let mut last = 0;
    for (i, w) in weights.enumerate() {
        last = i;
        left -= w;
        if left < 0.0 {
            break;
        }
    }
    last
}
