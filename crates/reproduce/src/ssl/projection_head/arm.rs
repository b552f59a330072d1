//! What the cells do, and their names.

/// Which head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    Mlp,
    Fixed,
    None,
}

impl Head {
    pub(super) const ALL: [Head; 3] = [Head::Mlp, Head::Fixed, Head::None];

    pub(super) fn name(self) -> &'static str {
        match self {
            Head::Mlp => "mlp",
            Head::Fixed => "fixed",
            Head::None => "none",
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Head::Mlp => "MLP head",
            Head::Fixed => "fixed head",
            Head::None => "no head",
        }
    }
}

/// Which loss of super-classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Supervision {
    CrossEntropy,
    SupCon,
}

impl Supervision {
    pub(super) const ALL: [Supervision; 2] = [Supervision::CrossEntropy, Supervision::SupCon];

    pub(super) fn name(self) -> &'static str {
        match self {
            Supervision::CrossEntropy => "ce",
            Supervision::SupCon => "supcon",
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Supervision::CrossEntropy => "cross entropy",
            Supervision::SupCon => "SupCon",
        }
    }
}

/// What one cell does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Arm {
    /// (a), the population's gradient.
    Linear,
    /// (a), batches of samples.
    Sampled { weight_decay: f64 },
    /// (b); nothing in it is random.
    Diagonal,
    /// (c).
    Digits { head: Head, p: f64, strength: f64 },
    /// (d).
    Coarse { loss: Supervision, head: Head },
}

impl std::fmt::Display for Arm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Arm::Linear => write!(f, "linear"),
            Arm::Sampled { weight_decay } => write!(f, "sampled/decay={weight_decay}"),
            Arm::Diagonal => write!(f, "diagonal"),
            Arm::Digits { head, p, strength } => write!(f, "digits/{}/drop={p}/strength={strength}", head.name()),
            Arm::Coarse { loss, head } => write!(f, "coarse/{}/{}", loss.name(), head.name()),
        }
    }
}
