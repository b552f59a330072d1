//! Classes remembered as normal distributions of their features.

use autodidact_core::cluster::kmeans;
use autodidact_core::error::{check_matrix, check_range};
use autodidact_core::{Error, Result, seed};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// What is kept of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemoryKind {
    /// Mean and covariance.
    Full,
    /// Mean and variances.
    Diagonal,
    /// So many centres of k-means with their variances, drawn as often as they have samples. (Fewer for a class with fewer samples.)
    Centroids(i64),
}

/// Normal distributions of the classes' features, to draw from once the samples are gone.
///
/// ```
/// use autodidact_unlearning::model_surgery::{GaussianMemory, MemoryKind};
/// use tch::Tensor;
/// let mut memory = GaussianMemory::new(MemoryKind::Full, 1e-4)?;
/// memory.fit(&Tensor::from_slice2(&[[0f32, 1.0], [2.0, 3.0]]))?;
/// assert_eq!(memory.means()?, Tensor::from_slice2(&[[1f32, 2.0]]));
/// assert_eq!(memory.sample(0, 5)?.size(), [5, 2]);
/// # Ok::<(), autodidact_core::Error>(())
/// ```
#[derive(Debug)]
pub struct GaussianMemory {
    kind: MemoryKind,
    ridge: f64,
    classes: Vec<Class>,
}

/// In f64: covariances of few samples are nearly singular.
#[derive(Debug)]
struct Class {
    mean: Tensor,
    spread: Spread,
}

#[derive(Debug)]
enum Spread {
    /// Lower triangle `[d, d]`.
    Factor(Tensor),
    /// Standard deviations `[d]`.
    Deviations(Tensor),
    /// Centres and standard deviations `[k, d]`, and their shares `[k]`.
    Centres { centres: Tensor, deviations: Tensor, shares: Tensor },
}

impl GaussianMemory {
    /// An empty memory; `ridge` is added to the variances (the paper's 1e-4).
    ///
    /// # Errors
    /// A ridge that is not positive, no centres.
    pub fn new(kind: MemoryKind, ridge: f64) -> Result<Self> {
        check_range("ridge", ridge, f64::MIN_POSITIVE..)?;
        if let MemoryKind::Centroids(k) = kind {
            check_range("centres", k as f64, 1.0..)?;
        }
        Ok(Self { kind, ridge, classes: vec![] })
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Remembers the next class by its features `[N, d]`, two or more; covariances divide by `N - 1`.
    ///
    /// # Errors
    /// Other shapes, another width than before, features that are not finite.
    pub fn fit(&mut self, features: &Tensor) -> Result<()> {
        let (n, d) = check_matrix("features", features)?;
        check_range("samples of a class", n as f64, 2.0..)?;
        if let Some(width) = self.classes.first().map(|c| c.mean.size()[0]).filter(|w| *w != d) {
            return Err(Error::shape("features", format!("[N, {width}]"), features));
        }
        let x = features.detach().to_kind(Kind::Double);
        let mean = x.mean_dim([0i64].as_slice(), false, Kind::Double);
        let spread = match self.kind {
            MemoryKind::Full => {
                let centred = &x - &mean;
                let covariance = centred.tr().matmul(&centred) / (n - 1) as f64;
                let covariance = covariance + Tensor::eye(d, (Kind::Double, x.device())) * self.ridge;
                let factor = covariance.f_linalg_cholesky(false);
                Spread::Factor(factor.map_err(|_| Error::value("features", "finite values", "otherwise"))?)
            }
            MemoryKind::Diagonal => Spread::Deviations((x.var_dim([0i64].as_slice(), true, false) + self.ridge).sqrt()),
            MemoryKind::Centroids(k) => {
                let rng = &mut seed::rng(self.classes.len() as u64, &["model-surgery", "centres"]);
                let (centres, cluster) = kmeans(&x, k.min(n), rng)?;
                let member = cluster.one_hot(centres.size()[0]).to_kind(Kind::Double);
                let shares = member.mean_dim([0i64].as_slice(), false, Kind::Double);
                let apart = &x - centres.index_select(0, &cluster);
                let variance = member.tr().matmul(&apart.square()) / (&shares * n as f64).clamp_min(1.0).unsqueeze(1);
                Spread::Centres { centres, deviations: (variance + self.ridge).sqrt(), shares }
            }
        };
        self.classes.push(Class { mean, spread });
        Ok(())
    }

    /// Means `[classes, d]`, in f32.
    ///
    /// # Errors
    /// An empty memory.
    pub fn means(&self) -> Result<Tensor> {
        if self.is_empty() {
            return Err(Error::value("memory", "a class or more", "none"));
        }
        Ok(Tensor::stack(&self.classes.iter().map(|c| &c.mean).collect::<Vec<_>>(), 0).to_kind(Kind::Float))
    }

    /// Logarithm of a class's density at points `[N, d]`: `[N]`, in f64.
    ///
    /// # Errors
    /// A class that there is not, points of another width.
    pub fn log_density(&self, class: usize, points: &Tensor) -> Result<Tensor> {
        let Class { mean, spread } = self.class(class)?;
        let width = mean.size()[0];
        if check_matrix("points", points)?.1 != width {
            return Err(Error::shape("points", format!("[N, {width}]"), points));
        }
        let constant = -0.5 * width as f64 * (2.0 * std::f64::consts::PI).ln();
        let x = points.to_kind(Kind::Double);
        // Standardised deviations [.., d], and the logarithm of the volume that they are measured in.
        let density = |z: &Tensor, volume: &Tensor| {
            z.square().sum_dim_intlist([-1i64].as_slice(), false, Kind::Double) * -0.5 - volume + constant
        };
        let volume = |d: &Tensor| d.log().sum_dim_intlist([-1i64].as_slice(), false, Kind::Double);
        Ok(match spread {
            Spread::Factor(lower) => {
                let z = lower.f_linalg_solve_triangular(&(x - mean).tr(), false, true, false)?.tr();
                density(&z, &volume(&lower.diagonal(0, 0, 1)))
            }
            Spread::Deviations(deviations) => density(&((x - mean) / deviations), &volume(deviations)),
            Spread::Centres { centres, deviations, shares } => {
                let z = (x.unsqueeze(1) - centres) / deviations;
                (density(&z, &volume(deviations)) + shares.log()).logsumexp([1i64].as_slice(), false)
            }
        })
    }

    fn class(&self, class: usize) -> Result<&Class> {
        self.classes.get(class).ok_or_else(|| Error::value("class", format!("below {}", self.len()), class))
    }

    /// `count` draws of a class, `[count, d]`, in f32, by libtorch's generator.
    ///
    /// # Errors
    /// A class that there is not, no draws.
    pub fn sample(&self, class: usize, count: i64) -> Result<Tensor> {
        self.sample_around(class, count, 1.0)
    }

    /// The same around a multiple of the mean.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn sample_around(&self, class: usize, count: i64, factor: f64) -> Result<Tensor> {
        check_range("draws", count as f64, 1.0..)?;
        let Class { mean, spread } = self.class(class)?;
        let noise = Tensor::randn([count, mean.size()[0]], (Kind::Double, mean.device()));
        let deviation = match spread {
            Spread::Factor(lower) => noise.matmul(&lower.tr()),
            Spread::Deviations(deviations) => noise * deviations,
            Spread::Centres { centres, deviations, shares } => {
                let which = shares.multinomial(count, true);
                noise * deviations.index_select(0, &which) + centres.index_select(0, &which) - mean
            }
        };
        Ok((mean * factor + deviation).to_kind(Kind::Float))
    }

    /// `count` draws of every class, class by class, around `factor(class)` times its mean: `[classes * count, d]`.
    ///
    /// # Errors
    /// An empty memory, no draws.
    pub fn sample_all(&self, count: i64, factor: impl Fn(usize) -> f64) -> Result<Tensor> {
        if self.is_empty() {
            return Err(Error::value("memory", "a class or more", "none"));
        }
        let draws = (0..self.len()).map(|c| self.sample_around(c, count, factor(c))).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&draws, 0))
    }
}
