//! Preference losses as programs: what a loss says in propositional logic, how losses entail one another, and losses made from formulas.
//!
//! Richardson, Srikumar, Sabharwal: *Understanding the Logic of Direct Preference Alignment through Logic*, ICML 2025,
//! arXiv 2412.17696.
//!
//! That a model validly generates a response is a proposition whose probability is that of the response. A loss `f(log(N/D))`, with N
//! and D polynomials that sum probabilities of worlds, is then the semantic loss of a preference structure `(P, P_C, P_A)`:
//!
//! ```text
//! loss = f(log WMC[(P or P_A) and P_C] - log WMC[(not P or P_A) and P_C]),     f(rho) = -log sigmoid(rho) and others
//! WMC(F) = sum over the worlds of F of prod_i p_i (where proposition i is true) or 1 - p_i (where it is false)
//! ```
//!
//! From the worlds F_t of N and F_b of D: `P = F_b -> F_t`, `P_C = F_t or F_b`, `P_A = F_t and F_b`. A world is in N, in D, in both or in
//! neither, so there are `4^(2^n)` losses over n propositions; one is at least as large as another everywhere if its F_t entails the
//! other's and its F_b is entailed.
//!
//! DPO, from its formula, as the paper prints it:
//!
//! ```
//! use autodidact_preference::preference_logic::{LONG, Polynomial, decompile};
//!
//! # fn main() -> autodidact_core::Result<()> {
//! let (above, below) = Polynomial::parse_ratio("p_w q_l / (p_l q_w)", &["p_w", "p_l", "q_w", "q_l"])?;
//! let dpo = decompile(&above, &below)?;
//! assert_eq!(
//!     dpo.core().with_names(&LONG).to_string(),
//!     "(M_ref(y_w) and M(y_l)) -> (M_ref(y_l) and M(y_w))"
//! );
//! // It is CPO with a reference.
//! let (above, below) = Polynomial::parse_ratio("p_w / p_l", &["p_w", "p_l"])?;
//! let cpo = decompile(&above, &below)?;
//! assert_eq!(cpo.to_string(), "P = l -> w; P_C = w or l; P_A = w and l");
//! assert_eq!(cpo.with_reference()?, dpo);
//! # Ok(())
//! # }
//! ```
//!
//! A new loss, cCPO: CPO's program without its additive condition.
//!
//! ```
//! use autodidact_preference::preference_logic::{Formula, Link, PreferenceStructure, compile};
//! use tch::Tensor;
//!
//! # fn main() -> autodidact_core::Result<()> {
//! let ccpo = PreferenceStructure::new("l -> w".parse()?, "w or l".parse()?, Formula::Bottom, 2)?;
//! assert_eq!(ccpo.winning().to_string(), "w");
//! assert_eq!(ccpo.losing().to_string(), "not w and l");
//! assert!(PreferenceStructure::from_marks("*+-.")?.stronger_than(&ccpo));
//! let loss = compile(&ccpo, Link::default())?;
//! // p_w = 0.3, p_l = 0.2: N/D = 0.3 / (0.7 * 0.2) and -log(0.3 / (0.3 + 0.14)) = 0.382992.
//! let log_probs = Tensor::from_slice2(&[[0.3f64, 0.2]]).log();
//! assert!((loss.forward(&log_probs)?.double_value(&[0]) - 0.382992).abs() < 1e-6);
//! # Ok(())
//! # }
//! ```

mod catalogue;
mod formula;
mod lattice;
mod loss;
mod polynomial;
mod structure;
mod table;

pub use catalogue::{Input, NamedLoss, catalogue};
pub use formula::{Formula, LONG, SHORT};
pub use lattice::{Landscape, Lattice, landscape, lattice};
pub use loss::{CompiledLoss, Link, columns, compile, log_wmc};
pub use polynomial::{PROBABILITIES, Polynomial};
pub use structure::{Marks, PreferenceStructure, decompile};
pub use table::{MAX_PROPOSITIONS, TruthTable};
